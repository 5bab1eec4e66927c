use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn scene() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/sub")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), b"theirs").unwrap();
    fs::write(dir.path().join("root/sub/file"), b"ours").unwrap();
    let folder = Folder::open(&dir.path().join("root")).unwrap();
    (dir, folder)
}

fn unfit<T: fmt::Debug>(result: io::Result<T>) -> &'static str {
    Unfit::of(&result.expect_err("refused")).expect("unfit").0
}

#[test]
fn what_lies_below_is_reached_and_nothing_else() {
    let (dir, folder) = scene();
    let mut text = String::new();
    folder
        .place("sub/file")
        .open()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "ours");
    for out in ["../outside/file", "/etc/passwd", "sub/../../outside/file"] {
        assert!(folder.place(out).open().is_err(), "{out}");
        assert!(folder.place(out).unlink().is_err(), "{out}");
        assert!(folder.place(out).create_new().is_err(), "{out}");
    }
    symlink(dir.path().join("outside"), dir.path().join("root/link")).unwrap();
    symlink(
        dir.path().join("outside/file"),
        dir.path().join("root/flink"),
    )
    .unwrap();
    for through in ["link/file", "flink"] {
        let place = folder.place(through);
        unfit(place.open());
        unfit(place.open_to_write());
        unfit(place.chmod(0o600));
        assert!(place.create_new().is_err());
    }
    unfit(folder.place("link").list());
    unfit(folder.place("link/file").unlink());
    unfit(folder.place("link").mkdir());
    unfit(folder.place("sub/file").rename(&folder.place("link/new")));
    assert!(
        folder.place("flink").unlink().unwrap(),
        "the link itself goes"
    );
    assert_eq!(
        fs::read(dir.path().join("outside/file")).unwrap(),
        b"theirs"
    );
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn without_openat2_the_walk_refuses_the_same() {
    let (dir, folder) = scene();
    symlink(dir.path().join("outside"), dir.path().join("root/link")).unwrap();
    let open = |below: &str| {
        let names = walk::plain(Path::new(below)).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        walk::step_by_step(folder.fd(), &names, flags, Mode::empty())
    };
    open("sub/file").unwrap();
    unfit(open("link/file"));
    unfit(open("link"));
}

#[test]
fn pipes_devices_and_folders_are_no_files_and_nothing_hangs() {
    let (dir, folder) = scene();
    let pipe = dir.path().join("root/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(unfit(folder.place("pipe").open()), "a pipe");
    unfit(folder.place("pipe").open_to_write());
    unfit(folder.place("sub").open());
    unfit(folder.place("sub/file").list());
    let dev = Folder::open(Path::new("/dev")).unwrap();
    assert_eq!(unfit(dev.place("null").open()), "a device");
}

#[test]
fn a_file_with_a_second_name_is_read_but_not_written_in_place() {
    let (dir, folder) = scene();
    fs::hard_link(
        dir.path().join("outside/file"),
        dir.path().join("root/hard"),
    )
    .unwrap();
    folder.place("hard").open().unwrap();
    unfit(folder.place("hard").open_to_write());
    unfit(folder.place("hard").chmod(0o644));
}

#[test]
fn new_files_are_private_and_a_moved_folder_stays_the_same() {
    let (dir, folder) = scene();
    folder
        .place("sub/new")
        .create_new()
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let mode = fs::metadata(dir.path().join("root/sub/new"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::rename(dir.path().join("root"), dir.path().join("moved")).unwrap();
    folder
        .place("sub/new")
        .rename(&folder.place("sub/newer"))
        .unwrap();
    assert!(dir.path().join("moved/sub/newer").exists());
    let names: Vec<_> = folder
        .place("sub")
        .list()
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["file", "newer"]);
    let file = folder.place("sub/file").open().unwrap();
    assert!(folder.place("sub/file").is_of(&file).unwrap());
    assert!(!folder.place("sub/newer").is_of(&file).unwrap());
}
