//! What decides who shares masks with whom may be put here.
//!
//! Who shares masks with whom: everybody (profile S) or the neighbours on a shuffled ring (profile D), and the bounds that
//! make a shape acceptable. `docs/SECURE_AGGREGATION.md` has the arguments.

mod ring;
mod shape;

pub(crate) use ring::Ring;
pub use shape::{Shape, honest_inputs, threshold};

#[cfg(test)]
mod tests {
    use super::shape::Tails;
    use super::{Ring, Shape, honest_inputs, threshold};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn neighbours_are_mutual_distinct_and_as_many_as_asked_for(
            seed in any::<[u8; 32]>(), n in 4u32..80, half in 1u32..20,
        ) {
            let degree = 2 * half.min((n - 1) / 2);
            let ring = Ring::new(&seed, n).unwrap();
            let all: Vec<Vec<u32>> = (0..n).map(|i| ring.neighbours(i, degree)).collect();
            for (i, near) in (0..n).zip(&all) {
                prop_assert_eq!(near.len(), degree as usize);
                prop_assert!(near.windows(2).all(|pair| pair[0] < pair[1]) && !near.contains(&i));
                prop_assert!(near.iter().all(|j| all[*j as usize].contains(&i)));
            }
        }
    }

    #[test]
    fn another_transcript_gives_another_ring_and_every_order_is_as_likely() {
        assert_ne!(
            Ring::new(&[1; 32], 50).unwrap().order,
            Ring::new(&[2; 32], 50).unwrap().order
        );
        // 6 orders of 3, 6000 draws: 1000 each, standard deviation 29; 200 is seven of them
        let mut counts = std::collections::BTreeMap::new();
        for i in 0u32..6000 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&i.to_le_bytes());
            *counts
                .entry(Ring::new(&seed, 3).unwrap().order)
                .or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|count| (count - 1000).abs() < 200),
            "{counts:?}"
        );
    }

    #[test]
    fn tails_agree_with_exact_fractions() {
        let tails = Tails::new(20);
        // 5 marked of 20, 4 drawn: P[>= 3] = (C(5,3) C(15,1) + C(5,4)) / C(20,4) = 155 / 4845
        assert!((tails.at_least(20, 5, 4, 3).exp2() - 155.0 / 4845.0).abs() < 1e-12);
        assert!((tails.at_least(20, 5, 4, 0).exp2() - 1.0).abs() < 1e-12);
        assert!(tails.at_least(20, 2, 4, 3).exp2() < 1e-300);
    }

    #[test]
    fn a_sparse_shape_meets_its_own_bounds_and_grows_with_what_it_must_bear() {
        for (n, colluding, lost) in [
            (1000, 10, 10),
            (1000, 20, 10),
            (10_000, 10, 10),
            (10_000, 20, 30),
        ] {
            let shape = Shape::sparse(n, colluding, lost).unwrap();
            assert!(shape.secure(n, colluding, 2).is_ok(), "{n} {shape:?}");
            assert!(
                shape.degree < n / 2 || lost > 10,
                "{n} {colluding} {lost} {shape:?}"
            );
            let weaker = Shape {
                degree: shape.degree - 2,
                ..shape
            };
            assert!(
                weaker.threshold > weaker.degree
                    || !Tails::new(n).live(n, weaker.degree, weaker.threshold, lost)
            );
            assert!(
                Shape {
                    commit: false,
                    ..shape
                }
                .secure(n, colluding, 2)
                .is_err()
            );
            assert!(
                Shape {
                    threshold: shape.threshold - 1,
                    ..shape
                }
                .secure(n, colluding, 2)
                .is_err()
            );
        }
        // six clients of which two collude and two leave: only a complete graph could do
        assert_eq!(Shape::sparse(6, 34, 34), None);
    }

    #[test]
    fn split_views_leave_a_third_of_the_honest_without_colluders_and_less_with_them() {
        let floor = |n, c| honest_inputs(n, threshold(n), c, false);
        assert_eq!(
            [floor(10, 0), floor(10, 1), floor(10, 2), floor(10, 3)],
            [5, 3, 1, 1]
        );
        assert_eq!(floor(100, 0), 35);
        assert_eq!(floor(10, 4), 0);
        assert_eq!(honest_inputs(10, 7, 3, true), 4);
        assert_eq!(honest_inputs(3, 3, 1, false), 2);
    }
}
