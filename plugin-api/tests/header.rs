//! The C header and the Rust structures say the same, by the C compiler's own word.

#![forbid(unsafe_code)]

use std::io::Write;
use std::mem::{offset_of, size_of};
use std::process::{Command, Stdio};

use plugin_api::abi::native::{
    self, Bytes, Endpoint, Host, Info, Key, Manifest, RawSetting, Sink, Table,
};
use plugin_api::abi::{Action, ActionBuffer, SYMBOL, Scalar, Setting};
use plugin_api::{Direction, KeyKind, Level, Outcome};

/// One line of C for the size of a structure and the place of each field.
macro_rules! layout {
    ($program:ident, $c:literal, $rust:ty, $($field:ident),*) => {
        $program.push_str(&format!(
            "_Static_assert(sizeof(struct {}) == {}, \"size of {}\");\n", $c, size_of::<$rust>(), $c
        ));
        $($program.push_str(&format!(
            "_Static_assert(offsetof(struct {}, {}) == {}, \"{}.{}\");\n",
            $c, stringify!($field), offset_of!($rust, $field), $c, stringify!($field)
        ));)*
    };
}

fn layouts_of_values() -> String {
    let mut program = String::new();
    layout!(program, "tcpcopy_bytes", Bytes, start, length);
    layout!(program, "tcpcopy_sink", Sink, context, write);
    layout!(
        program,
        "tcpcopy_key",
        Key,
        name,
        doc,
        default_value,
        kind,
        required
    );
    layout!(program, "tcpcopy_key", Key, needs_origin, needs_target);
    layout!(
        program,
        "tcpcopy_manifest",
        Manifest,
        name,
        version,
        description,
        keys,
        key_count
    );
    layout!(
        program,
        "tcpcopy_manifest",
        Manifest,
        needs_origin,
        needs_target
    );
    layout!(
        program,
        "tcpcopy_setting",
        RawSetting,
        place,
        text,
        integer,
        number,
        kind
    );
    layout!(program, "tcpcopy_endpoint", Endpoint, ip, port, ip_length);
    layout!(
        program,
        "tcpcopy_session_info",
        Info,
        id,
        client,
        origin,
        target,
        copy,
        start_seen
    );
    program
}

fn layouts_of_tables() -> String {
    let mut program = String::new();
    layout!(program, "tcpcopy_host", Host, context, random, log);
    layout!(
        program,
        "tcpcopy_host",
        Host,
        share_get,
        share_take,
        share_set
    );
    layout!(
        program,
        "tcpcopy_plugin",
        Table,
        version,
        reserved,
        manifest,
        configure,
        open
    );
    layout!(
        program,
        "tcpcopy_plugin",
        Table,
        on_data,
        on_gap,
        on_end,
        on_timer
    );
    layout!(program, "tcpcopy_plugin", Table, on_shared, close, destroy);
    program
}

fn constants() -> String {
    let direction = |direction| i64::from(native::number_of(direction));
    let level = |level| native::LEVELS.iter().position(|known| *known == level);
    let level = |known| level(known).map_or(-1, |place| place as i64);
    let key = |kind| Key::new(&plugin_api::Key::new("", kind, "")).kind.into();
    let setting = |value| {
        let place = String::new();
        RawSetting::new(&Setting { place, value }).kind.into()
    };
    let values = [
        ("TCPCOPY_PLUGIN_VERSION", i64::from(native::VERSION)),
        ("TCPCOPY_OK", native::OK.into()),
        ("TCPCOPY_REFUSED", native::REFUSED.into()),
        ("TCPCOPY_FAILED", native::FAILED.into()),
        ("TCPCOPY_CLIENT", direction(Direction::Client)),
        ("TCPCOPY_ORIGIN", direction(Direction::Origin)),
        ("TCPCOPY_TARGET", direction(Direction::Target)),
        ("TCPCOPY_ERROR", level(Level::Error)),
        ("TCPCOPY_TRACE", level(Level::Trace)),
        ("TCPCOPY_TEXT", key(KeyKind::Text)),
        ("TCPCOPY_SECRET", key(KeyKind::Secret)),
        ("TCPCOPY_INTEGER", key(KeyKind::Integer)),
        ("TCPCOPY_FLOAT", key(KeyKind::Float)),
        ("TCPCOPY_BOOLEAN", key(KeyKind::Boolean)),
        ("TCPCOPY_LIST", key(KeyKind::List)),
        ("TCPCOPY_TABLE", key(KeyKind::Table)),
        ("TCPCOPY_TEXT", setting(Scalar::Text(String::new()))),
        ("TCPCOPY_INTEGER", setting(Scalar::Integer(0))),
        ("TCPCOPY_FLOAT", setting(Scalar::Float(0.0))),
        ("TCPCOPY_BOOLEAN", setting(Scalar::Boolean(false))),
        ("TCPCOPY_EMPTY_LIST", setting(Scalar::EmptyList)),
        ("TCPCOPY_EMPTY_TABLE", setting(Scalar::EmptyTable)),
        ("(int64_t)TCPCOPY_UNKNOWN", native::UNKNOWN as i64),
    ];
    let line = |(name, value)| format!("_Static_assert({name} == {value}, \"{name}\");\n");
    values.map(line).concat()
}

/// The C compiler with warnings as errors; the program comes from its input.
fn compiler(arguments: &[&str], program: &str) -> std::process::Output {
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/c");
    let mut compiler = Command::new("cc")
        .args([
            "-x", "c", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", header,
        ])
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a C compiler, which the workspace needs to link");
    let mut input = compiler.stdin.take().expect("piped");
    let whole = format!("#include \"tcpcopy_plugin.h\"\n#include <stdio.h>\n{program}");
    input
        .write_all(whole.as_bytes())
        .expect("the compiler reads");
    drop(input);
    let output = compiler.wait_with_output().expect("waited for");
    assert!(
        output.status.success(),
        "{}\n{whole}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn structures_and_constants_agree() {
    let program = format!(
        "{}{}{}const struct tcpcopy_plugin *{SYMBOL}(void);\n",
        layouts_of_values(),
        layouts_of_tables(),
        constants()
    );
    compiler(&["-fsyntax-only"], &program);
}

#[test]
fn a_wrong_layout_would_be_seen() {
    let wrong = "_Static_assert(sizeof(struct tcpcopy_bytes) == 3, \"wrong\");";
    let seen = std::panic::catch_unwind(|| compiler(&["-fsyntax-only"], wrong));
    assert!(seen.is_err());
}

#[test]
fn the_functions_of_the_header_write_what_is_read() {
    let program = r#"
        static void print(void *context, struct tcpcopy_bytes bytes) {
            fwrite(bytes.start, 1, bytes.length, (FILE *)context);
        }
        int main(void) {
            struct tcpcopy_sink sink = {stdout, print};
            struct tcpcopy_bytes key = {(const uint8_t *)"a key", 5};
            tcpcopy_send(sink, "a\0b", 3);
            tcpcopy_begin_exchange(sink, "GET");
            tcpcopy_end_exchange(sink, 7, 404, "not found");
            tcpcopy_end_exchange(sink, 0, 0xfedcba98, "");
            tcpcopy_hold(sink);
            tcpcopy_release(sink);
            tcpcopy_count(sink, "many", 0x123456789abcdef0);
            tcpcopy_set_timer(sink, 1500000);
            tcpcopy_wait(sink, key, 250000);
            tcpcopy_pass_through(sink);
            tcpcopy_refuse(sink, "no_way");
            return 0;
        }
    "#;
    let path = std::env::temp_dir().join(format!("tcpcopy-header-{}", std::process::id()));
    let name = path.to_str().expect("a plain path");
    compiler(&["-o", name], program);
    let written = Command::new(&path).output().expect("runs").stdout;
    std::fs::remove_file(&path).expect("it was there");

    let micros = std::time::Duration::from_micros;
    let mut expected = ActionBuffer::new();
    for action in [
        Action::Send(b"a\0b"),
        Action::BeginExchange { label: "GET" },
        Action::EndExchange(Outcome::ok().status(404).label("not found")),
        Action::EndExchange(Outcome::failed().status(0xfedc_ba98)),
        Action::Hold,
        Action::Release,
        Action::Count {
            name: "many",
            n: 0x1234_5678_9abc_def0,
        },
        Action::Timer {
            after: micros(1_500_000),
        },
        Action::Wait {
            key: b"a key",
            timeout: micros(250_000),
        },
        Action::PassThrough,
        Action::Refuse { reason: "no_way" },
    ] {
        expected.push(action);
    }
    assert_eq!(written, expected.bytes());
}
