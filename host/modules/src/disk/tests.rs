use std::os::unix::fs::symlink;

use super::*;

const WAT: &str = r#"(module (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn modules_come_back_for_their_own_tenant_unless_they_are_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cache");
    let name = digest(b"module");
    Disk::open(&root)
        .expect("opened")
        .keep_module("shop", &name, b"module");
    let disk = Disk::open(&root).expect("opened again");
    assert_eq!(disk.module("shop", &name).as_deref(), Some(&b"module"[..]));
    assert_eq!(
        disk.module("other", &name),
        None,
        "another tenant must fetch it itself"
    );

    let path = files(&root.join("modules")).remove(0);
    fs::write(&path, b"other").expect("written");
    assert_eq!(disk.module("shop", &name), None);
    assert!(!path.exists(), "what is damaged goes");
    disk.keep_module("shop", &name, b"module");
    assert!(disk.module("shop", &name).is_some());
}

#[test]
fn everything_is_the_user_s_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("cache");
    fs::create_dir(&root).expect("made");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("set");
    let disk = Disk::open(&root).expect("opened");
    disk.keep_module("shop", &digest(b"module"), b"module");
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("key")), 0o600);
    assert_eq!(mode(&files(&root.join("modules"))[0]), 0o600);
    assert_eq!(mode(&root.join("modules")), 0o700);
}

#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let root = folder.path().join("cache");
    symlink(&elsewhere, &root).expect("linked");
    assert!(Disk::open(&root).is_err());

    fs::remove_file(&root).expect("removed");
    let disk = Disk::open(&root).expect("opened");
    let name = digest(b"module");
    let target = folder.path().join("module.wasm");
    fs::write(&target, b"module").expect("written");
    symlink(&target, disk.module_path("shop", &name)).expect("linked");
    assert_eq!(disk.module("shop", &name), None);
}

#[test]
fn code_comes_back_and_foreign_code_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let wasm = wat::parse_str(WAT).expect("a module");
    let name = digest(&wasm);
    let engine = Engine::new().expect("an engine");
    let module = engine.compile(&wasm).expect("compiled");
    let disk = Disk::open(folder.path()).expect("opened");
    assert!(disk.code(&engine, &name, &wasm).is_none());
    disk.keep_code(&engine, &name, &module);
    assert!(disk.code(&engine, &name, &wasm).is_some());
    let again = Disk::open(folder.path()).expect("opened again");
    assert!(
        again.code(&engine, &name, &wasm).is_some(),
        "the key is kept"
    );

    let path = again.code_path(&engine, &name);
    let sealed = fs::read(&path).expect("read");
    let mut flipped = sealed.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for foreign in [&flipped[..], &sealed[..40], b"\x7fELF"] {
        fs::write(&path, foreign).expect("written");
        assert!(again.code(&engine, &name, &wasm).is_none());
        assert!(!path.exists(), "what is foreign goes");
    }
    // A key that others could have read seals nothing.
    fs::write(&path, &sealed).expect("written");
    let key = folder.path().join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    let renewed = Disk::open(folder.path()).expect("opened");
    assert!(renewed.code(&engine, &name, &wasm).is_none());
    assert_eq!(mode(&key), 0o600);
}

#[test]
fn tags_are_kept_replaced_and_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::open(folder.path()).expect("opened");
    let tag = |module: &str| Tag {
        manifest: "sha256:0".to_owned(),
        module: module.to_owned(),
    };
    assert_eq!(disk.tag("a"), None);
    disk.keep_tag("a", &tag("1"));
    disk.keep_tag("a", &tag("2"));
    assert_eq!(disk.tag("a"), Some(tag("2")));
    disk.forget_tag("a");
    assert_eq!(disk.tag("a"), None);
}

#[test]
fn what_cannot_be_written_costs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::open(folder.path()).expect("opened");
    let name = digest(b"module");
    // As good as a full disk: a folder stands where the file should go.
    fs::create_dir_all(disk.module_path("shop", &name).join("in-the-way")).expect("made");
    disk.keep_module("shop", &name, b"module");
    assert_eq!(disk.module("shop", &name), None);
    let left: Vec<_> = files(&folder.path().join("modules"));
    assert_eq!(left.len(), 1, "no half-written file stays: {left:?}");
}

#[test]
fn the_oldest_files_go_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::open(folder.path()).expect("opened");
    let sparse = |name: &str, seconds: u64| {
        let path = folder.path().join("modules").join(name);
        let file = File::create(&path).expect("made");
        file.set_len(MOST_OVER_ALL / 2).expect("set");
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(at).expect("set");
        path
    };
    let (old, middle, new) = (sparse("old", 1), sparse("middle", 2), sparse("new", 3));
    disk.sweep();
    assert!(!old.exists() && !middle.exists() && new.exists());
}
