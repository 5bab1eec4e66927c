//! A session of blocks: each update is clipped, the sum is given once and with noise, and how many came is not told.
#![allow(clippy::float_cmp, reason = "exact values are meant")]

use aegis_noise::{NoiseError, Plan, Session};

fn plan(blocks: u64) -> Plan {
    Plan {
        sigma: 1.0,
        clip: 0.5,
        rate: 1.0,
        steps: 1,
        expected_batch: 1.0,
        dim: 4,
        rows: 20,
        blocks,
    }
}

fn refused<T>(made: &Result<T, NoiseError>) -> bool {
    matches!(made, Err(NoiseError::Session { .. }))
}

#[test]
fn what_is_not_finite_counts_as_zeros_and_as_a_block() {
    let mut s = Session::new(plan(2)).unwrap();
    s.add_block(&[f32::NAN, 1.0, 1.0, 1.0]).unwrap();
    s.add_block(&[f32::INFINITY, 0.0, 0.0, 0.0]).unwrap();
    assert!(refused(&s.add_block(&[0.0; 4])));
    assert!(
        s.noise_blocks().unwrap().iter().all(|v| v.abs() < 10.0),
        "noise alone"
    );
}

#[test]
fn a_session_of_blocks_gives_its_sum_once_and_with_noise() {
    let mut s = Session::new(plan(3)).unwrap();
    assert!(refused(&s.draw()), "nothing is sampled");
    assert!(
        refused(&s.noise(&[0.0; 4])),
        "no sum but the engine's own, of clipped updates"
    );
    assert!(refused(&s.add_block(&[0.0; 3])));
    s.add_block(&[1.0, 0.0, 0.0, 0.0]).unwrap();
    assert!(!s.spent().whole());
    assert_eq!(s.noise_blocks().unwrap().len(), 4);
    let spent = s.spent();
    assert!(spent.whole());
    assert_eq!((spent.drawn, spent.noised, spent.coordinates), (1, 1, 4));
    assert!(refused(&s.noise_blocks()), "noised once");
    assert!(refused(&s.add_block(&[0.0; 4])), "after its noise");
}

#[test]
fn a_session_without_blocks_takes_none() {
    let mut s = Session::new(plan(0)).unwrap();
    assert!(refused(&s.add_block(&[0.0; 4])));
    assert!(refused(&s.noise_blocks()));
    s.draw().unwrap();
    assert!(refused(&s.noise_blocks()));
}

/// The noise is for twice the clip, whether or not blocks came.
#[test]
fn the_noise_of_blocks_is_that_of_twice_the_clip() {
    for came in [0, 2] {
        let plan = Plan {
            dim: 40_000,
            clip: 3.0,
            sigma: 0.7,
            ..plan(2)
        };
        let mut s = Session::new(plan).unwrap();
        for _ in 0..came {
            s.add_block(&vec![0.0; 40_000]).unwrap();
        }
        let out = s.noise_blocks().unwrap();
        let variance = out.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 40_000.0;
        // Of 40 000 draws a variance is known to 0.7 %; seven of those.
        assert!(
            (variance / (0.7_f64 * 2.0 * 3.0).powi(2) - 1.0).abs() < 0.05,
            "{variance}"
        );
    }
}

#[test]
fn a_plan_of_blocks_has_one_whole_step_and_half_the_largest_clip() {
    let changes: [fn(&mut Plan); 5] = [
        |p| p.steps = 2,
        |p| p.rate = 0.5,
        |p| p.clip = 6e5,
        |p| p.expected_batch = 2.0,
        |p| p.blocks = 65_537,
    ];
    for change in changes {
        let mut bad = plan(3);
        change(&mut bad);
        assert!(matches!(
            Session::new(bad),
            Err(NoiseError::OutOfBounds { .. })
        ));
    }
}

#[test]
fn how_many_blocks_came_is_not_printed() {
    let mut s = Session::insecure_test(plan(3), 1).unwrap();
    let before = format!("{s:?}");
    s.add_block(&[1.0; 4]).unwrap();
    assert_eq!(before, format!("{s:?}"));
}
