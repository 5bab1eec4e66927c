//! The steps come in their order, and in a process of one thread. What they put up is tested from Python (`tests/redteam`), since
//! it takes a process that forks.

use aegis_jail::{Confinement, JailError, Layer, Layers, Limits, View};

#[test]
fn nothing_is_mounted_in_the_view_of_the_host() {
    // cargo's test process has several threads, which is refused first; either way, nothing was mounted.
    let before = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let readable = vec!["/usr".into()];
    let built = View {
        readable: readable.clone(),
    }
    .build();
    let layers = Layers::NONE.with(Layer::View);
    let confined = Confinement {
        readable,
        limits: Limits::default(),
        layers,
    }
    .apply();
    for refused in [built, confined] {
        assert!(matches!(
            refused,
            Err(JailError::Threads(_)
                | JailError::Layer {
                    layer: Layer::Namespaces,
                    ..
                })
        ));
    }
    assert_eq!(
        std::fs::read_to_string("/proc/self/mounts").unwrap(),
        before
    );
}

#[test]
fn a_process_of_several_threads_is_refused() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || told.recv());
    let refused = aegis_jail::leave_host().unwrap_err();
    assert_eq!(refused.code(), "AEG-J003");
    drop(tell);
    assert!(other.join().unwrap().is_err());
}

#[test]
fn every_layer_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Layer::ALL.iter().map(|l| l.name()).collect();
    assert_eq!(names.len(), Layer::ALL.len());
    for layer in Layer::ALL {
        assert_eq!(Layer::of(layer.name()), Some(layer));
        assert!(Layers::all().has(layer) && !Layers::all().without(layer).has(layer));
    }
    assert_eq!(Layer::of("wall"), None);
    assert_eq!(Layers::all().names().len(), 6);
}
