//! Folders as people keep them, and what is read out of them.

mod reload;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::api::{Age, Key, Kind};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn manifests(&self) -> Manifests {
        Manifests::new([self.path()])
    }

    /// What a fresh reading says, with paths relative to the folder.
    fn read(&self) -> (Vec<String>, Vec<String>) {
        let loaded = self.manifests().reload();
        (names(&loaded), self.errors(&loaded))
    }

    fn errors(&self, loaded: &Loaded) -> Vec<String> {
        let prefix = format!("{}/", self.path().display());
        let problems = loaded.resources.errors.iter().map(ToString::to_string);
        let rejected = loaded.resources.rejected.iter().flat_map(|rejected| {
            let at = rejected.source.clone();
            rejected
                .errors
                .iter()
                .map(move |error| format!("{at}: {rejected}: {error}"))
        });
        problems
            .chain(rejected)
            .map(|text| text.replace(&prefix, ""))
            .collect()
    }
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded
        .resources
        .iter()
        .map(|object| object.to_string())
        .collect()
}

fn map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: \"{value}\"}}\n"
    )
}

fn value(loaded: &Loaded, name: &str) -> String {
    let map = &loaded.resources.config_maps[&Key::new("default", name)];
    map.spec.data["k"].clone()
}

#[test]
fn a_folder_is_read_recursively() {
    let folder = Folder::with(&[
        ("a.yaml", &map("a", "1")),
        ("sub/b.yml", &map("b", "1")),
        (
            "sub/deep/c.json",
            r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "other"}}"#,
        ),
        ("d.txt", &map("d", "1")),
        ("yaml", &map("d", "1")),
        (".hidden.yaml", &map("d", "1")),
        (".git/e.yaml", &map("d", "1")),
    ]);
    let (objects, errors) = folder.read();
    assert_eq!(
        objects,
        [
            "ConfigMap default/a",
            "ConfigMap default/b",
            "ConfigMap other/c"
        ]
    );
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn documents_and_lists() {
    let several = format!(
        "# first\n---\n{}---\n---\n# empty\n---\n{}",
        map("a", "1"),
        map("b", "1")
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: c}\n\
                - apiVersion: v1\n  kind: ConfigMapList\n  items:\n  - metadata: {name: d}\n";
    let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "e"}}

{"apiVersion": "v1", "kind": "ConfigMapList", "items": [{"metadata": {"name": "f"}}]}"#;
    let folder = Folder::with(&[("1.yaml", &several), ("2.yaml", list), ("3.json", json)]);
    let loaded = folder.manifests().reload();
    assert_eq!(folder.errors(&loaded), Vec::<String>::new());
    let places: Vec<_> = loaded
        .resources
        .config_maps
        .values()
        .map(|map| {
            let place = map.source.to_string();
            (
                map.meta.name.as_str(),
                place.rsplit('/').next().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("a", "1.yaml:3"),
        ("b", "1.yaml:11"),
        ("c", "2.yaml:4"),
        ("d", "2.yaml:7"),
        ("e", "3.json:1"),
        ("f", "3.json:3"),
    ];
    assert_eq!(
        places,
        expected.map(|(name, place)| (name, place.to_owned()))
    );
}

#[test]
fn age_is_the_timestamp_else_the_order_of_reading() {
    let dated = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dated, creationTimestamp: 2024-01-02T03:04:05Z}\n";
    let folder = Folder::with(&[
        ("b.yaml", &map("third", "1")),
        (
            "a.yaml",
            &format!("{}---\n{}", map("first", "1"), map("second", "1")),
        ),
        ("z.yaml", dated),
    ]);
    let loaded = folder.manifests().reload();
    let mut maps: Vec<_> = loaded.resources.config_maps.values().collect();
    maps.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
    let order: Vec<_> = maps.iter().map(|map| map.meta.name.as_str()).collect();
    assert_eq!(order, ["dated", "first", "second", "third"]);
    assert!(matches!(maps[0].meta.age, Age::Created(_)));
}

#[test]
fn the_same_object_twice_the_first_by_path_stays() {
    let folder = Folder::with(&[
        ("b.yaml", &map("x", "second")),
        ("a.yaml", &map("x", "first")),
    ]);
    let loaded = folder.manifests().reload();
    assert_eq!(value(&loaded, "x"), "first");
    let first = folder.path().join("a.yaml");
    assert_eq!(
        folder.errors(&loaded),
        [format!("b.yaml:1: ConfigMap default/x is already defined at {}:1, which stays; remove one of them", first.display())
            .replace(&format!("{}/", folder.path().display()), "")]
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let cases = [
        ("a: [1\n", "x.yaml:1: unclosed bracket '['"),
        (
            "a: 1\n---\nb: 1\nb: 2\n",
            "x.yaml:4: duplicate mapping key: b",
        ),
        ("a: *nothing\n", "x.yaml:1: reference to unknown value"),
        (
            "text\n",
            "x.yaml:1: object: a manifest is an object with apiVersion, kind and metadata",
        ),
        (
            "kind: ConfigMap\n",
            "x.yaml:1: ConfigMap: apiVersion: Required value: every object says what it is",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}\ndata: {x: 1}\n",
            "x.yaml:1: ConfigMap default/A: metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\n",
            "x.yaml:1: ConfigMap: metadata.name: Required value: name or generateName is required",
        ),
        (
            "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\n",
            "x.yaml:1: Ingress old: no matches for kind \"Ingress\" in version \"extensions/v1beta1\"; use apiVersion networking.k8s.io/v1",
        ),
        (
            "apiVersion: networking.k8s.io/v1beta1\nkind: Ingress\nmetadata: {name: old}\n",
            "x.yaml:1: Ingress old: no matches for kind \"Ingress\" in version \"networking.k8s.io/v1beta1\"; use apiVersion networking.k8s.io/v1",
        ),
    ];
    for (text, expected) in cases {
        let folder = Folder::with(&[("good.yaml", &map("good", "1")), ("x.yaml", text)]);
        let (objects, errors) = folder.read();
        assert_eq!(objects, ["ConfigMap default/good"], "{text}");
        assert!(errors[0].starts_with(expected), "{text}: {errors:?}");
    }
    let folder = Folder::with(&[("x.json", "{\"a\": 1,\n \"a\": 2}"), ("y.json", "{\n")]);
    assert_eq!(
        folder.read().1,
        [
            "x.json:2: duplicate mapping key: a",
            "y.json:2: EOF while parsing an object"
        ]
    );
}

#[test]
fn a_refused_object_leaves_the_others_of_its_file() {
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndata: {k: 1}\n";
    let folder = Folder::with(&[("a.yaml", &format!("{bad}---\n{}", map("good", "1")))]);
    let (objects, errors) = folder.read();
    assert_eq!(objects, ["ConfigMap default/good"]);
    assert_eq!(
        errors,
        [
            r#"a.yaml:1: ConfigMap default/bad: data.k: Invalid value: "integer": data.k in body must be of type string: "integer""#
        ]
    );
}

#[test]
fn links_are_followed_once() {
    let elsewhere = Folder::with(&[("a.yaml", &map("a", "1"))]);
    let folder = Folder::with(&[("b.yaml", &map("b", "1"))]);
    symlink(elsewhere.path(), folder.path().join("there")).unwrap();
    symlink(folder.path(), folder.path().join("loop")).unwrap();
    symlink("missing.yaml", folder.path().join("dangling.yaml")).unwrap();
    let (objects, errors) = folder.read();
    assert_eq!(objects, ["ConfigMap default/a", "ConfigMap default/b"]);
    assert_eq!(
        errors,
        ["dangling.yaml: cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn folders_without_manifests_and_missing_paths_are_told() {
    let folder = Folder::with(&[("readme.txt", "x"), ("named", &map("a", "1"))]);
    let paths = [
        folder.path().to_owned(),
        folder.path().join("nothing"),
        folder.path().join("named"),
    ];
    let loaded = Manifests::new(paths).reload();
    assert_eq!(
        names(&loaded),
        ["ConfigMap default/a"],
        "a file that is named is read whatever it is called"
    );
    let errors = folder.errors(&loaded);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].ends_with("no manifests: a folder is searched for *.yaml, *.yml and *.json"));
    assert_eq!(
        errors[1],
        "nothing: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn kinds_nobody_reads_are_counted() {
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n";
    let folder = Folder::with(&[(
        "a.yaml",
        &format!("{other}---\n{other}---\n{}", map("a", "1")),
    )]);
    let loaded = folder.manifests().reload();
    let [ignored] = &loaded.resources.ignored[..] else {
        panic!()
    };
    assert_eq!(
        (
            ignored.api_version.as_str(),
            ignored.kind.as_str(),
            ignored.count
        ),
        ("apps/v1", "Deployment", 2)
    );
    assert!(ignored.first.to_string().ends_with("a.yaml:1"));
    assert_eq!(folder.errors(&loaded), Vec::<String>::new());
}

#[test]
fn defaults_and_warnings_of_admission() {
    let route = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
                 spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: s, port: 80}], timeout: 1s}]}\n";
    let class = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c, namespace: ignored}\n\
                 spec: {controller: tidegate.dev/controller}\n";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hi}\n";
    let folder = Folder::with(&[("a.yaml", &format!("{route}---\n{class}---\n{secret}"))]);
    let loaded = folder.manifests().reload();
    assert_eq!(folder.errors(&loaded), Vec::<String>::new());
    let resources = &loaded.resources;
    let route = &resources.http_routes[&Key::new("shop", "r")];
    assert_eq!(route.spec.rules[0].matches.len(), 1);
    let id = ObjectId {
        kind: Kind::HttpRoute,
        key: route.key(),
    };
    assert_eq!(
        resources.warnings[&id],
        [r#"unknown field "spec.rules[0].timeout""#]
    );
    assert_eq!(
        resources.ingress_classes[&Key::new("", "c")]
            .spec
            .controller
            .as_deref(),
        Some("tidegate.dev/controller")
    );
    assert_eq!(
        resources.secrets[&Key::new("default", "s")]
            .spec
            .get("password"),
        Some(&b"hi"[..])
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let folder = Folder::with(&[("a.yaml", &bomb), ("b.yaml", &map("b", "1"))]);
    let (objects, errors) = folder.read();
    assert_eq!(objects, ["ConfigMap default/b"]);
    assert!(errors[0].starts_with("a.yaml:"), "{errors:?}");
}

#[test]
fn many_documents_fit_in_a_file() {
    let text: String = (0..3000)
        .map(|n| format!("---\n{}", map(&format!("m{n}"), "1")))
        .collect();
    let folder = Folder::with(&[("a.yaml", &text)]);
    let (objects, errors) = folder.read();
    assert_eq!((objects.len(), errors), (3000, vec![]));
}
