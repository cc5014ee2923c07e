//! Reading again: what changed, what is kept, what is shared.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::{Folder, map, names, value};
use crate::api::Key;
use crate::manifests::Manifests;

#[test]
fn a_file_that_cannot_be_parsed_keeps_what_it_held() {
    let folder = Folder::with(&[("a.yaml", &map("a", "1")), ("b.yaml", &map("b", "1"))]);
    let mut manifests = folder.manifests();
    assert!(manifests.reload().changed);
    folder.write("a.yaml", "a: [");
    folder.write("b.yaml", &map("b", "2"));
    let loaded = manifests.reload();
    assert_eq!(
        (value(&loaded, "a"), value(&loaded, "b")),
        ("1".to_owned(), "2".to_owned())
    );
    assert_eq!(
        folder.errors(&loaded),
        ["a.yaml:1: unclosed bracket '['; what it held before is kept"]
    );
    assert!(
        !manifests.reload().changed,
        "the error stays, and is no news"
    );
    folder.write("a.yaml", &map("a", "3"));
    let loaded = manifests.reload();
    assert_eq!(
        (value(&loaded, "a"), folder.errors(&loaded)),
        ("3".to_owned(), vec![])
    );
}

#[test]
fn a_path_that_is_gone_keeps_what_it_held() {
    let folder = Folder::with(&[("sub/a.yaml", &map("a", "1"))]);
    let sub = folder.path().join("sub");
    let mut manifests = Manifests::new([&sub]);
    manifests.reload();
    fs::rename(&sub, folder.path().join("away")).unwrap();
    let loaded = manifests.reload();
    assert_eq!(value(&loaded, "a"), "1");
    assert!(
        folder.errors(&loaded)[0].starts_with("sub: cannot be read: No such file"),
        "{:?}",
        folder.errors(&loaded)
    );
    fs::rename(folder.path().join("away"), &sub).unwrap();
    let loaded = manifests.reload();
    assert_eq!(
        (value(&loaded, "a"), folder.errors(&loaded)),
        ("1".to_owned(), vec![])
    );
}

#[test]
fn a_refused_object_goes_on_serving_as_it_was() {
    let folder = Folder::with(&[("a.yaml", &map("a", "1"))]);
    let mut manifests = folder.manifests();
    manifests.reload();
    folder.write(
        "a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: 2}\n",
    );
    for _ in 0..2 {
        let loaded = manifests.reload();
        assert_eq!(value(&loaded, "a"), "1");
        assert!(loaded.resources.rejected[0].last_good_kept);
    }
    folder.write("a.yaml", &map("other", "1"));
    assert_eq!(
        names(&manifests.reload()),
        ["ConfigMap default/other"],
        "taken out of the file it is gone"
    );
}

#[test]
fn what_did_not_change_is_shared() {
    let folder = Folder::with(&[
        (
            "a.yaml",
            &format!("{}---\n{}", map("a", "1"), map("b", "1")),
        ),
        ("c.yaml", &map("c", "1")),
    ]);
    let mut manifests = folder.manifests();
    let first = manifests.reload();
    let again = manifests.reload();
    assert!(!again.changed && Arc::ptr_eq(&first.resources, &again.resources));
    folder.write(
        "a.yaml",
        &format!("{}---\n{}", map("a", "1"), map("b", "2")),
    );
    let second = manifests.reload();
    assert!(second.changed);
    let same = |name: &str| {
        let key = Key::new("default", name);
        Arc::ptr_eq(
            &first.resources.config_maps[&key],
            &second.resources.config_maps[&key],
        )
    };
    assert_eq!((same("a"), same("b"), same("c")), (true, false, true));
    fs::remove_file(folder.path().join("c.yaml")).unwrap();
    assert_eq!(
        names(&manifests.reload()),
        ["ConfigMap default/a", "ConfigMap default/b"]
    );
}

#[test]
fn equal_sizes_and_times_hide_nothing() {
    let folder = Folder::with(&[("a.yaml", &map("a", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut manifests = folder.manifests();
    manifests.reload();
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    folder.write("a.yaml", &map("a", "2"));
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(times)
        .unwrap();
    assert_eq!(value(&manifests.reload(), "a"), "2");
}

#[test]
fn a_mounted_config_map_swaps_a_link() {
    let folder = Folder::new();
    folder.write("..2024_01/a.yaml", &map("a", "1"));
    folder.write("..2024_02/a.yaml", &map("a", "2"));
    symlink("..2024_01", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    let mut manifests = folder.manifests();
    assert_eq!(value(&manifests.reload(), "a"), "1");
    symlink("..2024_02", folder.path().join("..data_tmp")).unwrap();
    fs::rename(
        folder.path().join("..data_tmp"),
        folder.path().join("..data"),
    )
    .unwrap();
    let loaded = manifests.reload();
    assert_eq!(
        (value(&loaded, "a"), names(&loaded).len()),
        ("2".to_owned(), 1)
    );
}
