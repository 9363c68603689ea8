use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

const ALL: [Operation; 5] =
    [Operation::Read, Operation::List, Operation::Checksum, Operation::Write, Operation::Delete];

/// A directory `root` with a few files, beside a file that nothing may reach.
struct Site {
    folder: tempfile::TempDir,
    files: Files,
}

impl Site {
    fn new(operations: &[Operation]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a.txt"), "héllo\n").unwrap();
        fs::write(root.join("sub/b.bin"), [0xff, 0x00]).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        let config = config::Files { root, operations: operations.into(), policy: None, timeout_seconds: 60 };
        Self { files: Files::new(config).unwrap(), folder }
    }

    fn root(&self) -> &Path {
        &self.files.config.root
    }

    fn run(&self, input: &Value) -> Result<Value, TaskFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.files.run(JobContext::for_test(input)))
    }

    /// The file that a job leaves as its result.
    fn result_file(&self, job: JobContext) -> Option<Vec<u8>> {
        let files = job.files();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.files.run(job)).unwrap();
        files.finished()
    }

    fn error(&self, input: &Value) -> String {
        self.run(input).unwrap_err().error().to_owned()
    }
}

#[test]
fn a_text_is_read_as_text_and_other_bytes_as_base64() {
    let site = Site::new(&ALL);
    // printf 'héllo\n' | sha256sum
    let sha256 = "b95becd154aa095f76c4ca47a5aeb8350d6dfcb838404edfc9dae06628de938d";
    let read = site.run(&json!({"operation": "read", "path": "a.txt"})).unwrap();
    assert_eq!((&read["text"], &read["bytes"]), (&json!("héllo\n"), &json!(7)));
    assert_eq!(read["sha256"], sha256);

    let read = site.run(&json!({"operation": "read", "path": "sub/b.bin"})).unwrap();
    assert_eq!((&read["base64"], read.get("text")), (&json!("/wA="), None));

    // printf '' | sha256sum
    fs::write(site.root().join("empty"), "").unwrap();
    let checksum = site.run(&json!({"operation": "checksum", "path": "empty"})).unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(checksum, json!({"path": "empty", "bytes": 0, "sha256": empty}));
}

#[test]
fn a_list_has_the_entries_by_path() {
    let site = Site::new(&ALL);
    symlink("a.txt", site.root().join("link")).unwrap();
    let list = site.run(&json!({"operation": "list", "path": ""})).unwrap();
    let seen: Vec<_> =
        list.as_array().unwrap().iter().map(|entry| (&entry["path"], &entry["type"])).collect();
    assert_eq!(
        seen,
        [
            (&json!("a.txt"), &json!("file")),
            (&json!("link"), &json!("link")),
            (&json!("sub"), &json!("directory"))
        ]
    );
    assert!(list[0]["modified"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let list = site.run(&json!({"operation": "list", "path": "sub"})).unwrap();
    assert_eq!(list[0]["path"], "sub/b.bin");
}

#[test]
fn a_file_is_replaced_as_a_whole_and_nothing_else_stays() {
    let site = Site::new(&ALL);
    let written = site.run(&json!({"operation": "write", "path": "sub/new", "base64": "/wA="})).unwrap();
    assert_eq!(written["bytes"], 2);
    site.run(&json!({"operation": "write", "path": "sub/new", "text": "shorter"})).unwrap();
    assert_eq!(fs::read(site.root().join("sub/new")).unwrap(), b"shorter");
    assert_eq!(fs::read_dir(site.root().join("sub")).unwrap().count(), 2);

    assert_eq!(site.run(&json!({"operation": "delete", "path": "sub/new"})).unwrap()["deleted"], true);
    assert_eq!(site.run(&json!({"operation": "delete", "path": "sub/new"})).unwrap()["deleted"], false);
    assert_eq!(site.error(&json!({"operation": "write", "path": "sub", "text": ""})), "Files.NotAFile");
}

#[test]
fn only_the_operations_of_the_section_are_done() {
    let site = Site::new(&[Operation::Read]);
    for input in [
        json!({"operation": "write", "path": "a.txt", "text": "x"}),
        json!({"operation": "delete", "path": "a.txt"}),
        json!({"operation": "list", "path": ""}),
        json!({"operation": "move", "path": "a.txt"}),
        json!({"operation": "read"}),
        json!({"operation": "read", "path": "a.txt", "root": "/"}),
        json!({"operation": "read", "path": ["a.txt"]}),
        json!("a.txt"),
    ] {
        assert_eq!(site.error(&input), "Worker.InvalidInput", "{input}");
    }
    assert_eq!(fs::read_to_string(site.root().join("a.txt")).unwrap(), "héllo\n");
}

#[test]
fn no_path_leads_outside_of_the_root() {
    let site = Site::new(&ALL);
    let (root, outside) = (site.root(), site.folder.path());
    symlink(outside.join("secret"), root.join("absolute-link")).unwrap();
    symlink("../secret", root.join("relative-link")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink("loop", root.join("loop")).unwrap();

    let secret = outside.join("secret");
    let escapes = [
        "../secret",
        "sub/../../secret",
        "./../secret",
        "up/secret",
        "absolute-link",
        "relative-link",
        "sub/../up/secret",
        "slash/etc/passwd",
        "/etc/passwd",
        secret.to_str().unwrap(),
        "//etc/passwd",
        "../root/../secret",
        "slash/proc/self/root/etc/passwd",
        "a.txt/../../secret",
        "..\0/secret",
        "\0",
        "loop",
        "",
        ".",
        "..",
        "sub",
        "up",
        "%2e%2e/secret",
        "..%2fsecret",
        "..\\secret",
        "~/secret",
        "$HOME",
        "file:///etc/passwd",
        "....//secret",
    ];
    for path in escapes {
        for operation in ["read", "checksum"] {
            let failure = site.run(&json!({"operation": operation, "path": path})).unwrap_err();
            assert!(
                [
                    "Files.OutsideRoot",
                    "Files.NotFound",
                    "Files.NotAFile",
                    "Files.Unavailable",
                    "Worker.InvalidInput"
                ]
                .contains(&failure.error()),
                "{operation} {path:?}: {failure:?}"
            );
        }
    }

    for path in [
        "../secret",
        "up/secret",
        "up/new",
        "/tmp/postern-new",
        "slash/tmp/postern-new",
        "..",
        "sub/../../new",
    ] {
        let written = site.run(&json!({"operation": "write", "path": path, "text": "overwritten"}));
        assert!(written.is_err(), "{path}");
        assert!(site.run(&json!({"operation": "delete", "path": path})).is_err(), "{path}");
        assert!(site.run(&json!({"operation": "list", "path": path})).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(secret).unwrap(), "outside");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 2, "nothing was created beside the root");
    assert_eq!(site.error(&json!({"operation": "read", "path": "up/secret"})), "Files.OutsideRoot");

    // Writing over a link replaces the link, not the file that it names.
    site.run(&json!({"operation": "write", "path": "relative-link", "text": "inside"})).unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "outside");
}

#[test]
fn a_pipe_and_a_device_are_not_waited_for() {
    let site = Site::new(&ALL);
    let pipe = site.root().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(site.error(&json!({"operation": "read", "path": "pipe"})), "Files.NotAFile");
    assert_eq!(site.error(&json!({"operation": "checksum", "path": "sub"})), "Files.NotAFile");
}

#[test]
fn a_file_that_does_not_fit_into_a_message_is_the_result_file() {
    let site = Site::new(&ALL);
    // The second one fits as it is, but not as Base64.
    for (name, bytes) in [("large", 300_000), ("encoded", 120_000)] {
        fs::write(site.root().join(name), vec![0xfe; bytes]).unwrap();
        let job = JobContext::for_test(&json!({"operation": "read", "path": name}));
        assert_eq!(site.result_file(job).unwrap(), vec![0xfe; bytes]);
    }
}

#[test]
fn a_small_file_is_the_result_file_if_the_job_wants_it_as_a_file() {
    let site = Site::new(&ALL);
    let job = JobContext::for_test(&json!({"operation": "read", "path": "sub/b.bin", "as": "file"}));
    assert_eq!(site.result_file(job).unwrap(), [0xff, 0x00]);

    let job = JobContext::for_test(&json!({"operation": "read", "path": "sub/b.bin", "as": "value"}));
    assert_eq!(site.result_file(job), None);
    let wrong = json!({"operation": "read", "path": "sub/b.bin", "as": "link"});
    assert_eq!(site.error(&wrong), "Worker.InvalidInput");
}

#[test]
fn a_file_that_is_too_large_for_s3_is_not_copied() {
    let site = Site::new(&ALL);
    let file = fs::File::create(site.root().join("huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(site.error(&json!({"operation": "read", "path": "huge"})), "Worker.ResultTooLarge");
}

/// While a directory is replaced by a link to the outside and back, every read has the content of the inside or fails.
#[test]
fn a_link_that_is_swapped_in_while_files_are_opened_leads_nowhere() {
    let site = Site::new(&ALL);
    let root = site.root().to_owned();
    fs::write(root.join("sub/secret"), "inside").unwrap();
    symlink("..", root.join("up")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (root, done) = (root.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [("sub", "kept"), ("up", "sub"), ("sub", "up"), ("kept", "sub")] {
                    fs::rename(root.join(from), root.join(to)).unwrap();
                }
            }
        }
    });

    let mut inside = 0;
    for _ in 0..5_000 {
        if let Ok(read) = site.run(&json!({"operation": "read", "path": "sub/secret"})) {
            assert_eq!(read["text"], "inside");
            inside += 1;
        }
    }
    done.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(inside > 0, "the race never let a read through, so that it proves nothing");
}

#[test]
fn a_cancelled_checksum_ends() {
    let site = Site::new(&ALL);
    fs::File::create(site.root().join("large")).unwrap().set_len(1 << 40).unwrap();
    let message = br#"{"TaskToken":"t","Input":{"operation":"checksum","path":"large"}}"#;
    let job = Arc::new(postern_types::JobMessage::parse(message).unwrap());
    let cancel = tokio_util::sync::CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stopper = std::thread::spawn({
        let cancel = cancel.clone();
        move || cancel.cancel()
    });
    let failure = runtime.block_on(site.files.run(JobContext::of(job, cancel))).unwrap_err();
    stopper.join().unwrap();
    assert_eq!(failure.error(), "Worker.Cancelled");
}
