//! Hostile pickles: refused with opcode and byte, nothing executed, no stack overflow, no flood of memory.

use std::time::{Duration, Instant};

use crate::python::batch;
use crate::support::*;

/// A pickle as the first batch: its refusal must name file, byte and each of `words`, and come soon.
fn hostile(bytes: &[u8], words: &[&str]) -> String {
    let (_temp, folder) = folder("cifar-10-batches-py");
    cifar10_py(&folder, &batch());
    write(&folder.join("data_batch_1"), bytes);
    let start = Instant::now();
    let text = refused(&folder, &[&["data_batch_1", "at byte"], words].concat());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    text
}

#[test]
fn calls_of_anything_but_numpy_are_refused_and_not_run() {
    let temp = tempfile::tempdir().unwrap();
    let mark = temp.path().join("executed");
    let command = format!("touch {}", mark.display());
    let text = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
    let cases: [(Vec<u8>, &str); 7] = [
        (format!("cos\nsystem\n(S'{command}'\ntR.").into_bytes(), "GLOBAL"),
        (format!("cposix\nsystem\n(S'{command}'\ntR.").into_bytes(), "posix.system"),
        (format!("cnt\nsystem\n(S'{command}'\ntR.").into_bytes(), "nt.system"),
        (format!("c__builtin__\neval\n(S'{command}'\ntR.").into_bytes(), "__builtin__.eval"),
        (format!("csubprocess\nPopen\n(S'{command}'\ntR.").into_bytes(), "subprocess.Popen"),
        ([b"\x80\x04", &*text("os"), &*text("system"), b"\x93", &*text(&command), b"\x85R."].concat(), "STACK_GLOBAL"),
        (format!("(S'{command}'\nios\nsystem\n.").into_bytes(), "INST"),
    ];
    for (bytes, word) in cases {
        let text = hostile(&bytes, &[word, "refused", "nothing was executed"]);
        assert!(word == "INST" || text.contains("system") || text.contains(word), "{text}");
        assert!(!mark.exists());
    }
    // Behind an innocent beginning, at the offset where it stands.
    let mut late = batch();
    let at = late.len() - 1;
    late.truncate(at);
    late.extend(b"cos\nsystem\n(S'true'\ntR.");
    hostile(&late, &[&format!("at byte {at}"), "GLOBAL", "`os.system`"]);
}

#[test]
fn opcodes_that_cifar_does_not_need_are_refused_by_name() {
    let cases: [(&[u8], &str); 16] = [
        (b"(cnumpy\nndarray\no.", "OBJ"),
        (b"cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"cnumpy\nndarray\n)}\x92.", "NEWOBJ_EX"),
        (b"Pfile\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"F1.5\n.", "FLOAT"),
        (b"G?\xf0\x00\x00\x00\x00\x00\x00.", "BINFLOAT"),
        (b"NN0.", "POP"),
        (b"(N1.", "POP_MARK"),
        (b"N2.", "DUP"),
        (b"\x8f.", "EMPTY_SET"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\xff.", "0xff in place of a pickle opcode"),
    ];
    for (bytes, name) in cases {
        hostile(bytes, &[name, "refused"]);
    }
}

#[test]
fn numpy_calls_with_other_arguments_are_refused() {
    let cases: [(&[u8], &str); 14] = [
        (b"cnumpy\nndarray\n(I1\ntR.", "REDUCE"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.", "REDUCE"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "REDUCE"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "other than uint8"),
        (b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR.", "other than uint8"),
        (b"cnumpy\ndtype\n(S'V9999999999'\nI0\nI1\ntR.", "other than uint8"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "REDUCE"),
        (b"c_codecs\nencode\n(S'x'\nVlatin1\ntR.", "REDUCE"),
        (b"c__builtin__\nbytes\n(I99999999999\ntR.", "REDUCE"),
        (b"cnumpy.core.multiarray\nscalar\n(I1\ntR.", "numpy.core.multiarray.scalar"),
        (b"I1\n(I2\ntR.", "an integer with a tuple"),
        (b"}}b.", "BUILD gives a dict"),
        (b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\n}NNtb.", "BUILD gives a dtype"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I-1\ntNI0\nS''\ntb.",
            "BUILD gives an array",
        ),
    ];
    for (bytes, word) in cases {
        hostile(bytes, &[word]);
    }
}

#[test]
fn broken_stacks_memos_and_numbers_are_refused() {
    let cases: [(&[u8], &str); 22] = [
        (b".", "nothing on the stack"),
        (b"NN.", "leaves values"),
        (b"(N.", "leaves values"),
        (b"N(.", "nothing on the stack"),
        (b"a.", "nothing on the stack"),
        (b"Na.", "nothing on the stack"),
        (b"(a.", "nothing on the stack"),
        (b"NNa.", "appends to None"),
        (b"NNNs.", "sets an item of None"),
        (b"e.", "no mark"),
        (b"t.", "no mark"),
        (b"](Ne", "ends within"),
        (b"}(Nu.", "without a value"),
        (b"(Nd.", "without a value"),
        (b"\x85.", "nothing on the stack"),
        (b"g7\n.", "value 7 of the memo"),
        (b"j\xff\xff\xff\xff.", "value 4294967295 of the memo"),
        (b"Np-1\n.", "number of the memo"),
        (b"I12x\n.", "no integer"),
        (b"L99999999999999999999999L\n.", "no integer"),
        (b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.", "no integer"),
        (b"\x80\x06N.", "protocol 6"),
    ];
    for (bytes, word) in cases {
        hostile(bytes, &[word]);
    }
    for bytes in [&b"X\x02\x00\x00\x00\xff\xfe."[..], b"V\\ud800\n.", b"S'open\n.", b"S'\\q'\n."] {
        hostile(bytes, &["at byte 0"]);
    }
}

#[test]
fn huge_lengths_ask_for_no_memory() {
    let max = [0xff; 8];
    for opcode in [0x8e, 0x96, 0x8d] {
        hostile(&[&[opcode], &max[..], b"x."].concat(), &["truncated"]);
    }
    for opcode in [b'T', b'B', b'X', 0x8b] {
        hostile(&[&[opcode], &max[..4], b"x."].concat(), &["truncated"]);
        hostile(&[&[opcode], &[0xff, 0xff, 0xff, 0x7f][..], b"x."].concat(), &["truncated"]);
    }
    hostile(&[b"\x80\x04\x95", &max[..], b"N."].concat(), &["frame", "truncated"]);
    hostile(b"\x80\x02}r\xff\xff\xff\xff.", &["no `data`"]); // a memo place far out costs one entry
}

#[test]
fn bombs_go_out() {
    // Nesting a million deep, by marks, tuples, lists within lists and calls.
    let million = 1_000_000;
    hostile(&[vec![b'('; million], b".".to_vec()].concat(), &["nothing on the stack"]);
    hostile(&[b"N".to_vec(), vec![0x85; million], b".".to_vec()].concat(), &["a tuple, no dict"]);
    hostile(&[vec![b']'; million], vec![b'a'; million - 1], b".".to_vec()].concat(), &["a list, no dict"]);
    hostile(&b"]".repeat(3_000_000), &["more than"]);
    // A list of lists of lists .. of one text each: 2^40 texts if it were written out.
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 0..40u8 {
        laughs.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
    }
    laughs.push(b'.');
    hostile(&laughs, &["leaves values"]);
    // A megabyte encoded once more by every call.
    let mut encodes = b"\x80\x02X\x00\x00\x10\x00".to_vec();
    encodes.extend(vec![b'a'; 1 << 20]);
    encodes.extend(b"q\x00");
    encodes.extend(b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x02(");
    (0..200_000).for_each(|_| encodes.extend(b"h\x01h\x00h\x02\x86R"));
    encodes.extend(b"t.");
    hostile(&encodes, &["leaves values"]);
    // A dict and a list that hold themselves.
    hostile(b"\x80\x02}q\x00U\x04datah\x00s.", &["no `labels`"]);
    hostile(b"\x80\x02}q\x00(U\x04datah\x00U\x06labelsh\x00u.", &["`data` is a dict"]);
    hostile(b"\x80\x02]q\x00h\x00a.", &["a list, no dict"]);
}

#[test]
fn arrays_that_lie_are_refused_whatever_their_order() {
    let whole = batch();
    let at = whole.windows(4).position(|window| *window == *b"tb\x89T").unwrap() + 2;
    let mut fortran = whole.clone();
    fortran[at] = 0x88;
    let (_temp, folder) = folder("cifar-10-batches-py");
    cifar10_py(&folder, &fortran);
    let (turned, pixels) = (load(&folder), [planes(0), planes(1)].concat());
    assert_eq!(turned.train.image(0)[0], pixels[0]);
    assert_eq!(turned.train.image(1)[0], pixels[1]); // first index fastest
    // An array without content, and one whose content is a list of objects.
    let empty = b"\x80\x02}q\x00(U\x06labels]U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Ru.";
    hostile(empty, &["without content"]);
}
