//! An evaluation: counts leave with the engine's noise, or where no privacy is asked for.

use super::*;

#[test]
fn counts_leave_with_the_engines_noise_and_never_as_they_are() {
    let world = World::new();
    let permit = permit_under(&world, &evaluation(), &facts());
    let release = Told::new().gate(&world, &permit).unwrap();
    assert!(release.update().is_empty());
    // The chance that all three draws are zero is below 10^-5.
    assert_ne!(release.metrics(), &metrics());
    let record = world.last_record();
    assert_eq!(record["dp"], "secure");
    assert_eq!(record["reservation"], "h-1");
    assert_eq!(record["counts"]["noise_multiplier"], "2");
    assert_eq!(record["counts"]["loss_cap_milli"], 10_000);
    assert_eq!(record["counts"]["histograms"], false);
    let third = &record["counts"]["blocks"][2];
    assert_eq!(
        (&third["cap"], &third["names"][0]),
        (&10_000.into(), &"loss_milli".into())
    );
    for value in release.metrics().values().filter(|v| v.abs() > 999) {
        assert!(!record.to_string().contains(&value.to_string()));
    }
    let exact = Told {
        noise: None,
        reservation: None,
        epsilon: 0,
        ..Told::new()
    };
    let permit = permit_under(&world, &evaluation(), &facts());
    assert_eq!(failed(exact.gate(&world, &permit)), ["counts"]);
}

#[test]
fn each_fault_of_an_evaluation_is_refused() {
    type Change = fn(&mut Told);
    let told: Vec<(&str, Change)> = vec![
        ("budget", |t| t.reservation = None),
        ("budget", |t| t.epsilon = 0),
        ("budget", |t| t.epsilon = 8_000_001),
        ("counts", |t| {
            t.noise.as_mut().unwrap().seed = Some(3);
        }),
        ("secure_aggregation", |t| t.secure_aggregation = false),
    ];
    for (name, change) in told {
        let world = World::new();
        let permit = permit_under(&world, &evaluation(), &facts());
        let mut case = Told::new();
        change(&mut case);
        assert_eq!(failed(case.gate(&world, &permit)), [name]);
    }
    let bad: Vec<Change> = vec![
        |t| t.noise.as_mut().unwrap().z = 0.0,
        |t| t.noise.as_mut().unwrap().z = 1e-155,
        |t| t.noise.as_mut().unwrap().z = f64::NAN,
        |t| t.noise.as_mut().unwrap().blocks[2].cap = 0,
        |t| t.noise.as_mut().unwrap().blocks.clear(),
        |t| t.noise.as_mut().unwrap().blocks[0].names[0] = "correct".into(),
        |t| drop(t.noise.as_mut().unwrap().blocks.pop()),
        |t| {
            t.metrics.insert("weight_of_patient_7".into(), 81);
        },
    ];
    for change in bad {
        let world = World::new();
        let permit = permit_under(&world, &evaluation(), &facts());
        let mut case = Told::new();
        change(&mut case);
        let result = case.gate(&world, &permit);
        assert!(
            matches!(result, Err(PolicyError::BadRequest { .. })),
            "{result:?}"
        );
        assert!(!world.last_record().to_string().contains("patient_7"));
    }
}

#[test]
fn exact_counts_leave_where_no_privacy_is_asked_for_and_values_never_beside_them() {
    let world = World::new();
    let free = DatasetFacts {
        require_dp: false,
        ..facts()
    };
    let exact = || Told {
        noise: None,
        reservation: None,
        epsilon: 0,
        facts: free.clone(),
        ..Told::new()
    };
    let permit = permit_under(&world, &evaluation(), &free);
    let release = exact().gate(&world, &permit).unwrap();
    assert_eq!(release.metrics(), &metrics());

    let permit = permit_under(&world, &evaluation(), &free);
    let part = Part {
        permit: &permit,
        facts: &free,
        reservation: None,
        epsilon_micro_total: 0,
    };
    let result = world
        .engine
        .gate(&[part], proposal(), None, None, &limits(), &world.log);
    assert_eq!(failed(result), ["contract"]);
}

#[test]
fn a_node_without_held_out_rows_tells_zeros_on_record() {
    let world = World::new();
    let names = ["examples", "correct"].map(str::to_owned);
    let release = world
        .engine
        .release_nothing(names, true, &world.log)
        .unwrap();
    assert!(release.update().is_empty() && release.metrics().values().all(|v| *v == 0));
    assert_eq!(release.metrics().len(), 2);
    let record = world.last_record();
    assert_eq!(
        (&record["event"], &record["rows"]),
        (&"release".into(), &0.into())
    );
    std::fs::remove_file(world.log.path()).unwrap();
    let unrecorded = world.engine.release_nothing([], true, &world.log);
    assert!(matches!(unrecorded, Err(PolicyError::Audit(_))));
}
