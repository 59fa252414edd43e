//! Which packets the kernel hands over: a program of classic BPF, written here for the origins and
//! compiled by libpcap from the user's own filter.
//!
//! The ring hands over packets from the IP header on, whatever the device is, so expressions are
//! compiled for raw IP: `tcp`, `host`, `net`, `port` and the like work, link-layer words do not.

mod origins;

pub use origins::{Directions, OriginFilter};

use crate::bpf::{self, Instruction, op};
use origins::Sides;

/// libpcap's number for packets that begin with the IP header, on Linux (`DLT_RAW`).
const DLT_RAW: i32 = 12;

/// Where the kernel answers with facts about the packet instead of bytes (`SKF_AD_OFF`).
#[expect(
    clippy::cast_sign_loss,
    reason = "BPF offsets are unsigned, ancillary ones wrap"
)]
const ANCILLARY_PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

/// The link-layer protocols that reach the expression: IPv4, IPv6, and the VLAN tags behind which
/// a packet leaves through a device that does not tag by itself.
const PASSED_PROTOCOLS: [i32; 4] = [
    libc::ETH_P_IP,
    libc::ETH_P_IPV6,
    libc::ETH_P_8021Q,
    libc::ETH_P_8021AD,
];

/// Why an expression is no capture filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// libpcap refuses the expression.
    #[error(
        "the capture filter does not compile: {message}\nfilter: {expression}\n\nhint: see pcap-filter(7). Packets are seen from the IP header on, so words for the link layer such as `ether`, `vlan` or `inbound` do not apply"
    )]
    Syntax {
        /// The expression, shortened if it is very long.
        expression: String,
        /// libpcap's own words.
        message: String,
    },
    /// The compiled program has more instructions than the kernel takes.
    #[error(
        "the capture filter is too long: {instructions} instructions, the kernel takes {max}\n\nhint: name fewer origins, or leave out their addresses so that only ports are compared",
        max = bpf::MAX_INSTRUCTIONS
    )]
    TooLong {
        /// The program's length.
        instructions: usize,
    },
}

/// A compiled capture filter.
#[derive(Clone, Debug)]
pub struct CaptureFilter {
    expression: String,
    program: Vec<Instruction>,
}

impl CaptureFilter {
    /// Compiles pcap-filter text; empty text lets every IP packet pass.
    ///
    /// # Errors
    /// [`FilterError::Syntax`] with libpcap's text, [`FilterError::TooLong`] if the kernel would
    /// refuse the program.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        Self::new(expression.to_owned(), compile(expression)?)
    }

    /// The filter for the TCP packets of the origins, pure acknowledgements included, with the
    /// user's own pcap-filter text, if any, as a further condition.
    ///
    /// Hundreds of origins cost the kernel a dozen comparisons a packet. Packets with IPv6
    /// extension headers and all but the first fragment of a packet, which show no port, do not
    /// pass; without any origin nothing does.
    ///
    /// # Errors
    /// [`FilterError::Syntax`] if the user's text does not compile by itself,
    /// [`FilterError::TooLong`] with too many origins: more than
    /// some 550 different pairs of address and port, or 2,900 ports of any address; half as many with
    /// [`Directions::Both`].
    pub fn for_origins(
        origins: &[OriginFilter],
        directions: Directions,
        user_filter: Option<&str>,
    ) -> Result<Self, FilterError> {
        match directions {
            Directions::ToOrigin => Self::with_answers(origins, &[], user_filter),
            Directions::Both => Self::with_answers(origins, origins, user_filter),
        }
    }

    /// As [`for_origins`](Self::for_origins), where only some of the origins' answers are wanted:
    /// those of `answering`.
    ///
    /// # Errors
    /// As [`for_origins`](Self::for_origins).
    pub fn with_answers(
        origins: &[OriginFilter],
        answering: &[OriginFilter],
        user_filter: Option<&str>,
    ) -> Result<Self, FilterError> {
        let user_filter = user_filter.filter(|text| !text.trim().is_empty());
        let user_program = user_filter.map(compile).transpose()?;
        let sides = Sides::new(origins, answering);
        let mut expression = sides.expression();
        if let Some(user_filter) = user_filter {
            expression.push_str(&format!(" and ({user_filter})"));
        }
        let accept = [Instruction::new(op::RET_K, u32::MAX)];
        let then = user_program.as_deref().unwrap_or(&accept);
        Self::new(expression, sides.program(then))
    }

    fn new(expression: String, program: Vec<Instruction>) -> Result<Self, FilterError> {
        let filter = Self {
            expression,
            program,
        };
        match filter.kernel_program(u32::MAX).len() {
            instructions if instructions > bpf::MAX_INSTRUCTIONS => {
                Err(FilterError::TooLong { instructions })
            }
            _ => Ok(filter),
        }
    }

    /// The filter in pcap-filter words.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether a packet, from its IP header on, passes.
    #[must_use]
    pub fn matches(&self, packet: &[u8]) -> bool {
        bpf::run(&self.program, packet) != 0
    }

    /// The program for a socket: the link-layer protocol is looked at first, because the bytes of
    /// an ARP or MPLS header could pass for an IP header. `snaplen` is the most bytes kept of a
    /// packet.
    pub(crate) fn kernel_program(&self, snaplen: u32) -> Vec<Instruction> {
        let mut program = vec![Instruction::new(op::LD_W_ABS, ANCILLARY_PROTOCOL)];
        for (protocol, to_expression) in PASSED_PROTOCOLS.iter().zip((1..=4).rev()) {
            program.push(Instruction {
                code: op::JEQ_K,
                jump_true: to_expression,
                jump_false: 0,
                k: protocol.cast_unsigned(),
            });
        }
        program.extend(reject_all());
        program.extend(self.program.iter().map(|instruction| match *instruction {
            Instruction {
                code: op::RET_K,
                k: 1..,
                ..
            } => Instruction::new(op::RET_K, snaplen),
            other => other,
        }));
        program
    }
}

/// The program that lets nothing pass.
pub(crate) const fn reject_all() -> [Instruction; 1] {
    [Instruction::new(op::RET_K, 0)]
}

/// libpcap's program for the text.
fn compile(expression: &str) -> Result<Vec<Instruction>, FilterError> {
    let program = pcap::Capture::dead(pcap::Linktype(DLT_RAW))
        .and_then(|handle| handle.compile(expression, true))
        .map_err(|error| syntax_error(expression, &error))?;
    Ok(program.get_instructions().iter().map(instruction).collect())
}

/// The `pcap` crate shows an instruction only as text, `code jt jf k`, as `tcpdump -ddd` does.
fn instruction(instruction: &pcap::BpfInstruction) -> Instruction {
    let text = instruction.to_string();
    let mut numbers = text.split(' ').map(|number| number.parse::<u32>());
    let mut number = || numbers.next().and_then(Result::ok).expect("four numbers");
    let byte = |value: u32| u8::try_from(value).expect("jump distances are bytes");
    let code = u16::try_from(number()).expect("operation codes have 16 bits");
    let (jump_true, jump_false) = (byte(number()), byte(number()));
    Instruction {
        code,
        jump_true,
        jump_false,
        k: number(),
    }
}

fn syntax_error(expression: &str, error: &pcap::Error) -> FilterError {
    /// Longer expressions would hide the message.
    const SHOWN_CHARS_MAX: usize = 200;
    let message = match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    };
    let mut shown: String = expression.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < expression.len() {
        shown.push('…');
    }
    FilterError::Syntax {
        expression: shown,
        message,
    }
}

#[cfg(test)]
mod tests;
