//! What the server sees of one client is uniform; what it would see without masks is not. With colluders: `view`.

use super::{BINDING, Cohort, plan};
use crate::encode;
use crate::message::MaskedInput;

/// Upper critical value of chi-square with 255 degrees of freedom at alpha = 1e-6
/// (Wilson and Hilferty 1931: 255 (1 - 2/(9*255) + 4.7534 sqrt(2/(9*255)))^3 = 377.3).
const CRITICAL: f64 = 377.3;

#[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
fn chi_square(bytes: &[u8]) -> f64 {
    let mut counts = [0u64; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let expected = bytes.len() as f64 / 256.0;
    counts
        .iter()
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum()
}

fn packed(integers: &[i64], width: usize) -> Vec<u8> {
    integers
        .iter()
        .flat_map(|x| x.to_le_bytes()[..width].to_vec())
        .collect()
}

#[test]
fn masked_vectors_are_uniform_while_plain_ones_are_not() {
    const DIM: usize = 200_000;
    for (weight_max, bits) in [(50, 32), (1 << 16, 40), (1 << 40, 64)] {
        let mut plan = plan(DIM as u64, &["loss"]);
        plan.encoding.weight_max = weight_max;
        let width = plan.width().unwrap();
        assert_eq!(width.bits(), bits);
        let mut cohort = Cohort::new(3, plan.clone());
        cohort.share(1, &[]).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "any smooth update will do")]
        let update: Vec<f32> = (0..DIM).map(|i| (i as f32).sin() * 0.01).collect();
        let bare = packed(&encode(&update, 3, &[0], &plan).unwrap(), width.bytes());
        assert!(chi_square(&bare) > 100.0 * CRITICAL);

        let mut seen: Vec<Vec<u8>> = Vec::new();
        for (id, request) in cohort.masked_requests() {
            let client = cohort.clients.get_mut(&id).unwrap();
            let message = client
                .masked_input(&request, &BINDING, &update, 3, &[0])
                .unwrap();
            let (_, input) = MaskedInput::from_bytes(&message, width, DIM + 2).unwrap();
            let found = chi_square(input.packed);
            assert!(found < CRITICAL, "{bits} bits: chi-square {found}");
            // each byte place by itself, too: a bad high byte could hide among good low ones
            for place in 0..width.bytes() {
                let bytes: Vec<u8> = input
                    .packed
                    .iter()
                    .copied()
                    .skip(place)
                    .step_by(width.bytes())
                    .collect();
                let found = chi_square(&bytes);
                assert!(
                    found < CRITICAL,
                    "{bits} bits, byte {place}: chi-square {found}"
                );
            }
            // equal updates of two clients must not look alike, nor differ by anything simple
            for before in &seen {
                let difference: Vec<u8> = before
                    .iter()
                    .zip(input.packed)
                    .map(|(a, b)| a.wrapping_sub(*b))
                    .collect();
                assert!(chi_square(&difference) < CRITICAL);
            }
            seen.push(input.packed.to_vec());
        }
    }
}
