//! Changes are noticed. Real files and real time: what is awaited is a change, never a moment.

use std::future::Future;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;

/// Far beyond what a slow machine needs, and far below what a lost notice would cost with a longer rescan.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .expect("a change is noticed")
}

fn watch(path: &Path) -> Watch {
    Watch::new([path])
}

#[tokio::test]
async fn changes_are_noticed() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["a.yaml", "sub/b.yaml"] {
        // A new one each time: what is left over of the first change must not stand for the second.
        let watch = watch(folder.path());
        fs::write(folder.path().join(name), "x").unwrap();
        within(watch.dirty.notified()).await;
    }
}

#[tokio::test]
async fn a_file_is_watched_through_its_folder() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    let watch = watch(&path);
    fs::write(folder.path().join("new"), "x").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    within(watch.dirty.notified()).await;
}

#[tokio::test]
async fn a_folder_that_comes_later_is_watched_from_then_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("later");
    let mut watch = watch(&path);
    fs::create_dir(&path).unwrap();
    within(watch.changed()).await;
    assert!(watch.armed.contains_key(&path));
}

#[tokio::test(start_paused = true)]
async fn time_alone_is_a_change_too() {
    let mut watch = watch(Path::new("/nonexistent/folder/of/nobody"));
    let start = Instant::now();
    watch.changed().await;
    assert!(start.elapsed() >= RESCAN);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_change_and_ends() {
    let mut watch = watch(Path::new("/nonexistent/folder/of/nobody"));
    watch.dirty.notify_one();
    let bell = Arc::clone(&watch.dirty);
    let writer = tokio::spawn(async move {
        loop {
            sleep(HOLD_OFF / 2).await;
            bell.notify_one();
        }
    });
    let start = Instant::now();
    watch.changed().await;
    let waited = start.elapsed();
    writer.abort();
    assert!(waited >= MAX_HOLD_OFF && waited < RESCAN, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn giving_up_loses_nothing() {
    let mut watch = watch(Path::new("/nonexistent/folder/of/nobody"));
    watch.dirty.notify_one();
    assert!(timeout(HOLD_OFF / 2, watch.changed()).await.is_err());
    let start = Instant::now();
    watch.changed().await;
    assert!(start.elapsed() < RESCAN);
}

/// As a loop does that waits for other things, too.
#[tokio::test(start_paused = true)]
async fn giving_up_often_puts_nothing_off() {
    let mut watch = watch(Path::new("/nonexistent/folder/of/nobody"));
    for _ in 0..3 {
        let start = Instant::now();
        while timeout(Duration::from_secs(1), watch.changed())
            .await
            .is_err()
        {
            assert!(start.elapsed() < RESCAN * 2, "time alone is a change");
        }
        assert!(start.elapsed() >= RESCAN);
    }
    watch.dirty.notify_one();
    let start = Instant::now();
    while timeout(HOLD_OFF / 3, watch.changed()).await.is_err() {
        assert!(start.elapsed() < MAX_HOLD_OFF, "the burst is over");
    }
    assert!(start.elapsed() >= HOLD_OFF);
}

#[test]
fn reading_is_no_change() {
    use notify::event::ModifyKind;
    let cases = [
        (EventKind::Access(AccessKind::Open(AccessMode::Any)), true),
        (EventKind::Access(AccessKind::Close(AccessMode::Read)), true),
        (
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            false,
        ),
        (EventKind::Modify(ModifyKind::Any), false),
    ];
    for (kind, expected) in cases {
        assert_eq!(is_reading(kind), expected, "{kind:?}");
    }
}
