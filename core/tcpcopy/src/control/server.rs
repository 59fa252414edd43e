//! The answering side of the control socket, served by the main thread between other things.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::{Answer, Request};
use crate::error::StartError;

/// Most connections at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 16;
/// Longest request, in bytes.
const LONGEST_REQUEST: usize = 4096;

/// The socket and those who have connected to it. Nothing here ever waits.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    callers: Vec<Caller>,
}

/// Someone who has connected.
#[derive(Debug)]
struct Caller {
    stream: UnixStream,
    heard: Vec<u8>,
}

/// A request, and whom to answer.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    stream: UnixStream,
}

impl Question {
    /// Answers and ends the connection. A caller that does not read gets what fits.
    pub fn answer(mut self, answer: &Answer) {
        let Ok(mut line) = serde_json::to_vec(answer) else {
            return;
        };
        line.push(b'\n');
        // The caller may be gone; that is its own affair.
        let _ = self.stream.write_all(&line);
    }
}

impl ControlSocket {
    /// Listens at `path`; only this user may connect. A socket there that nobody listens on is
    /// replaced.
    ///
    /// # Errors
    /// [`StartError::File`], also when another tcpcopy listens there.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::File {
            action: "open the control socket",
            path: path.to_owned(),
            source,
        };
        remove_stale(path).map_err(failed)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            callers: Vec::new(),
        })
    }

    /// What to wait for: readable when [`Self::questions`] has work.
    pub fn interests(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = (self.callers.len() < MOST_CONNECTIONS).then(|| self.listener.as_fd());
        let callers = self.callers.iter().map(|caller| caller.stream.as_fd());
        listener.into_iter().chain(callers)
    }

    /// The requests that are complete. What is no request is answered here.
    pub fn questions(&mut self) -> Vec<Question> {
        while self.callers.len() < MOST_CONNECTIONS
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.callers.push(Caller {
                    stream,
                    heard: Vec::new(),
                });
            }
        }
        let mut questions = Vec::new();
        let mut waiting = Vec::new();
        for mut caller in self.callers.drain(..) {
            match caller.listen() {
                Heard::Part => waiting.push(caller),
                Heard::Nothing => {}
                Heard::Line(line) => questions.extend(understand(&line, caller.stream)),
            }
        }
        self.callers = waiting;
        questions
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Where the privileges for it are gone, the next one to listen here replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a caller has said.
enum Heard {
    Line(Vec<u8>),
    /// Not a whole line yet.
    Part,
    /// It has gone away.
    Nothing,
}

impl Caller {
    fn listen(&mut self) -> Heard {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Nothing,
                Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::Nothing,
            }
            let is_whole = self.heard.contains(&b'\n');
            if is_whole || self.heard.len() > LONGEST_REQUEST {
                return Heard::Line(std::mem::take(&mut self.heard));
            }
        }
    }
}

fn understand(line: &[u8], stream: UnixStream) -> Option<Question> {
    match serde_json::from_slice(line) {
        Ok(request) => Some(Question { request, stream }),
        Err(error) => {
            let mut stream = stream;
            let refusal = Answer::Refused(format!("not a request: {error}"));
            if let Ok(mut line) = serde_json::to_vec(&refusal) {
                line.push(b'\n');
                let _ = stream.write_all(&line);
            }
            None
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        // Anything else is left to `bind`, which says that it is in the way.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Somebody listens: `bind` refuses.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn socket(name: &str) -> (PathBuf, ControlSocket) {
        let path = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
        let socket = ControlSocket::open(&path).expect("a socket");
        (path, socket)
    }

    fn read_line(stream: &UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("an answer");
        line
    }

    #[test]
    fn a_request_in_pieces_is_answered_once_it_is_whole() {
        let (path, mut socket) = socket("pieces");
        let mut caller = UnixStream::connect(&path).expect("connects");
        caller.write_all(b"\"sta").expect("writes");
        assert!(socket.questions().is_empty());
        caller.write_all(b"tus\"\n").expect("writes");
        let question = socket.questions().pop().expect("a question");
        assert_eq!(question.request, Request::Status);
        question.answer(&Answer::Done);
        assert_eq!(read_line(&caller), "\"done\"\n");
    }

    #[test]
    fn nonsense_and_endless_lines_are_refused() {
        let (path, mut socket) = socket("nonsense");
        for words in ["{}\n".to_owned(), "x".repeat(LONGEST_REQUEST + 1)] {
            let mut caller = UnixStream::connect(&path).expect("connects");
            caller.write_all(words.as_bytes()).expect("writes");
            assert!(socket.questions().is_empty());
            assert!(read_line(&caller).starts_with(r#"{"refused":"not a request"#));
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let (path, first) = socket("stale");
        assert!(matches!(
            ControlSocket::open(&path),
            Err(StartError::File { .. })
        ));
        let copy = path.with_extension("kept");
        std::fs::rename(&path, &copy).expect("renames");
        drop(first);
        std::fs::rename(&copy, &path).expect("renames back");
        let again = ControlSocket::open(&path).expect("the dead one is replaced");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn callers_that_say_nothing_do_not_keep_others_out_for_ever() {
        let (path, mut socket) = socket("silent");
        let silent: Vec<_> = (0..MOST_CONNECTIONS)
            .map(|_| UnixStream::connect(&path).expect("connects"))
            .collect();
        assert!(socket.questions().is_empty());
        let mut caller = UnixStream::connect(&path).expect("connects");
        caller.write_all(b"\"status\"\n").expect("writes");
        assert!(socket.questions().is_empty(), "the queue is full");
        drop(silent);
        // One look to see them gone, one to let the next in.
        let mut questions = socket.questions();
        questions.extend(socket.questions());
        assert_eq!(
            questions.pop().expect("a question").request,
            Request::Status
        );
    }
}
