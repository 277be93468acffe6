//! `earlybird vgpu run` as a user calls it: results, findings, exit codes, hostile arguments. The PTX is written here; no compiler is needed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{earlybird, outcome};

const SAXPY: &str = "\
.version 8.0
.target sm_80
.address_size 64
.visible .entry saxpy(.param .u64 x, .param .u64 .ptr .global .align 4 y, .param .f32 a, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .f32 %f<5>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  ld.param.f32 %f1, [a];
  ld.param.u32 %r2, [n];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.s32 %r1, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r1, %r2;
  @%p1 bra DONE;
  mul.wide.s32 %rd4, %r1, 4;
  add.s64 %rd5, %rd2, %rd4;
  add.s64 %rd7, %rd1, %rd4;
  ld.global.f32 %f2, [%rd7];
  ld.global.f32 %f3, [%rd5];
  fma.rn.f32 %f4, %f2, %f1, %f3;
  st.global.f32 [%rd5], %f4;
DONE:
  ret;
}
";

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(ptx: &str) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("k.ptx"), ptx).unwrap();
        Bench { folder }
    }

    fn floats(&self, name: &str, values: impl IntoIterator<Item = f32>) {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self, name: &str) -> Vec<f32> {
        let bytes = std::fs::read(self.path().join(name)).unwrap();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = earlybird(&["vgpu", "run", "k.ptx"]);
        command.args(arguments.split_whitespace()).current_dir(self.path());
        command
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        outcome(self.command(arguments).output().unwrap())
    }
}

fn saxpy() -> Bench {
    let bench = Bench::new(SAXPY);
    bench.floats("x.bin", (0..300).map(|i| i as f32));
    bench.floats("y.bin", (0..300).map(|_| 1.0));
    bench
}

#[test]
fn buffers_come_from_files_and_go_to_files() {
    let bench = saxpy();
    let (code, out, err) = bench.run(
        "--kernel saxpy --grid 3 --block 128 --arg in:x.bin --arg inout:y.bin:z.bin --arg f32:2 --arg u32:300 --check",
    );
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let z = bench.read("z.bin");
    assert!(z.iter().enumerate().all(|(i, v)| *v == 2.0 * i as f32 + 1.0), "{z:?}");
    assert!(bench.read("y.bin").iter().all(|v| *v == 1.0), "the input stays");
    // In place, the kernel found by itself, all arguments behind one flag.
    let (code, ..) =
        bench.run("--grid 3 --block 128,1,1 --arg in:x.bin inout:y.bin f32:-0.5 i32:300 --schedule random:3");
    assert_eq!((code, bench.read("y.bin")[4]), (0, -1.0));
}

#[test]
fn a_finding_names_line_thread_and_buffer_and_what_was_computed_is_kept() {
    let bench = saxpy();
    let arguments = "--grid 3 --block 128 --arg in:x.bin --arg inout:y.bin:z.bin --arg f32:2 --arg u32:301";
    let (code, out, _) = bench.run(&format!("{arguments} --check"));
    assert_eq!(code, 1, "{out}");
    for part in
        ["out-of-bounds global load, 4 bytes", "ptx:23", "block (2,0,0) thread (44,0,0)", "x (in:x.bin)", "%r1=300"]
    {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    assert_eq!(bench.read("z.bin")[299], 599.0, "the other threads' results are there");
    let (code, out, _) = bench.run(&format!("{arguments} --check --json"));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["ok"].as_bool(), json["errors"].as_u64()), (1, Some(false), Some(3)));
    assert_eq!(json["findings"][0]["kind"], "out-of-bounds");
    assert_eq!(json["findings"][0]["at"]["ptx_line"], 23);
    assert_eq!(json["findings"][0]["buffer"]["offset"], 1200);
    // Without --check the first one stops the launch.
    assert_eq!(bench.run(arguments).0, 1);
}

#[test]
fn the_profile_counts_traffic_exactly() {
    let bench = saxpy();
    let (code, out, _) = bench
        .run("--grid 3 --block 128 --arg in:x.bin --arg inout:y.bin:z.bin --arg f32:2 --arg u32:300 --profile --json");
    assert_eq!(code, 0, "{out}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let profile = &json["profile"];
    let text = profile.to_string();
    assert!(text.contains("modelled"), "{text}");
    assert_eq!(profile["global_read"]["bytes"], 2400, "{text}");
    assert_eq!(profile["global_write"]["bytes"], 1200, "{text}");
    assert_eq!(profile["global_read"]["footprint_sectors"], 76, "two buffers of 1200 bytes in 32-byte sectors: {text}");
}

#[test]
fn wrong_arguments_and_limits_are_findings() {
    let bench = saxpy();
    for (arguments, kind) in [
        ("--arg in:x.bin", "wrong-argument"),
        ("--arg in:x.bin in:y.bin f64:2 u32:3", "wrong-argument"),
        ("--arg in:x.bin u64:7 f32:2 u32:0 --check", "wrong-argument"),
        ("--block 1025 --arg in:x.bin in:y.bin f32:2 u32:3", "limit-exceeded"),
        ("--grid 0 --arg in:x.bin in:y.bin f32:2 u32:3", "limit-exceeded"),
        ("--grid 1,70000 --arg in:x.bin in:y.bin f32:2 u32:3", "limit-exceeded"),
        ("--shared 200000 --arg in:x.bin in:y.bin f32:2 u32:3", "limit-exceeded"),
        ("--shared 120000 --gpu rtx4090 --arg in:x.bin in:y.bin f32:2 u32:3", "limit-exceeded"),
    ] {
        let (code, out, err) = bench.run(arguments);
        assert_eq!(code, 1, "{arguments}: {out}{err}");
        assert!(out.contains(kind), "{arguments}: {out}");
    }
}

#[test]
fn bad_input_is_one_message_and_exit_code_2() {
    let bench = saxpy();
    std::fs::write(bench.path().join("cubin"), [0x7f, b'E', b'L', b'F', 0xff, 0xfe]).unwrap();
    for (arguments, part) in [
        ("--arg q:1", "no kind \"q\""),
        ("--arg u8:256", "does not fit u8"),
        ("--arg in:missing.bin in:y.bin f32:2 u32:3", "missing.bin"),
        ("--kernel nope", "there are: saxpy"),
        ("--grid 1,2,3,4", "at most three"),
        ("--gpu v100", "a100, h100, rtx4090"),
        ("--schedule fast", "random:SEED"),
        ("--arg out:99999999999999:z in:y.bin f32:2 u32:3", "no memory"),
    ] {
        let (code, out, err) = bench.run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments}: {err}");
        assert!(err.contains(part), "{arguments}: {err}");
    }
    for (file, part) in [("missing.ptx", "cannot read"), ("cubin", "not UTF-8")] {
        let (code, _, err) = outcome(earlybird(&["vgpu", "run", file]).current_dir(bench.path()).output().unwrap());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn ptx_that_is_wrong_is_2_and_what_is_unknown_here_is_3_with_its_line() {
    let bench =
        Bench::new(&format!("{HEAD}.visible .entry k()\n{{\n  .reg .b32 %r<2>;\n  add.s32 %r0 %r1;\n  ret;\n}}\n"));
    let (code, _, err) = bench.run("");
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("line 7"), "{err}");
    for instruction in
        ["wgmma.fence.sync.aligned;", "tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [t, {%f0, %f1}];", "frob.u32 %r0, %r1;"]
    {
        let bench = Bench::new(&format!(
            "{HEAD}.visible .entry bad()\n{{\n  .reg .b32 %r<2>;\n  .reg .f32 %f<4>;\n  {instruction}\n  ret;\n}}\n.visible .entry good()\n{{\n  ret;\n}}\n"
        ));
        let (code, _, err) = bench.run("--kernel bad");
        assert_eq!(code, 3, "{instruction}: {err}");
        let name = instruction.split(['.', ' ']).next().unwrap();
        assert!(err.contains("k.ptx:8") && err.contains(name), "{instruction}: {err}");
        assert_eq!(bench.run("--kernel good").0, 0, "the other kernel runs");
    }
}

#[test]
fn dynamic_shared_memory_and_printf() {
    let bench = Bench::new(&format!(
        "{HEAD}.extern .shared .align 16 .b8 buf[];\n.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n\
         .global .align 1 .b8 text[9] = {{104, 105, 32, 37, 100, 10, 0}};\n\
         .visible .entry k(.param .u64 out)\n{{\n  .local .align 8 .b8 frame[8];\n  .reg .b32 %r<8>;\n  .reg .b64 %rd<8>;\n\
         mov.u32 %r1, %tid.x;\n  shl.b32 %r2, %r1, 2;\n  mov.u32 %r3, buf;\n  add.s32 %r4, %r3, %r2;\n  st.shared.u32 [%r4], %r1;\n  bar.sync 0;\n\
         sub.s32 %r5, 508, %r2;\n  add.s32 %r5, %r5, %r3;\n  ld.shared.u32 %r6, [%r5];\n  ld.param.u64 %rd1, [out];\n  mul.wide.u32 %rd2, %r1, 4;\n\
         add.s64 %rd3, %rd1, %rd2;\n  st.global.u32 [%rd3], %r6;\n\
         {{\n  .reg .pred %p;\n  setp.ne.u32 %p, %r1, 5;\n  @%p bra END;\n  mov.u64 %rd4, frame;\n  st.local.u32 [%rd4], %r6;\n  cvta.local.u64 %rd5, %rd4;\n\
         mov.u64 %rd6, text;\n  cvta.global.u64 %rd7, %rd6;\n  {{\n  .param .b64 p0;\n  st.param.b64 [p0], %rd7;\n  .param .b64 p1;\n  st.param.b64 [p1], %rd5;\n\
         .param .b32 q;\n  call.uni (q), vprintf, (p0, p1);\n  ld.param.b32 %r7, [q];\n  }}\n  }}\nEND:\n  ret;\n}}\n"
    ));
    let (code, out, err) = bench.run("--block 128 --shared 512 --arg out:512:o.bin --check");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("hi 122\n"), "{out}");
    let words: Vec<u32> = bench.read("o.bin").iter().map(|f| f.to_bits()).collect();
    assert!(words.iter().enumerate().all(|(i, w)| *w == 127 - i as u32), "{words:?}");
    let (code, out, _) = bench.run("--block 128 --shared 508 --arg out:512:o.bin --check");
    assert_eq!(code, 1);
    assert!(out.contains("out-of-bounds shared store"), "{out}");
}

#[test]
fn loops_without_end_are_found() {
    let spin = format!(
        "{HEAD}.visible .entry k(.param .u64 p)\n{{\n  .reg .b32 %r<2>;\n  .reg .b64 %rd<2>;\n  .reg .pred %p1;\n  ld.param.u64 %rd1, [p];\n\
         L:\n  ld.volatile.global.u32 %r1, [%rd1];\n  setp.eq.u32 %p1, %r1, 0;\n  @%p1 bra L;\n  ret;\n}}\n"
    );
    let bench = Bench::new(&spin);
    std::fs::write(bench.path().join("zero"), [0; 4]).unwrap();
    let (code, out, _) = bench.run("--block 64 --arg in:zero --check");
    assert_eq!(code, 1);
    assert!(out.contains("livelock"), "{out}");
    let count = format!(
        "{HEAD}.visible .entry k()\n{{\n  .reg .b32 %r<2>;\n  mov.u32 %r1, 0;\nL:\n  add.s32 %r1, %r1, 1;\n  bra L;\n}}\n"
    );
    let (code, out, _) = Bench::new(&count).run("--budget 1000000");
    assert_eq!(code, 1);
    assert!(out.contains("timeout") && out.contains("1000000"), "{out}");
}
