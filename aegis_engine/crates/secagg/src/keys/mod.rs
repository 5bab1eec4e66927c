//! What is done with keys may be put here: agreeing, deriving, sealing, signing. Each key belongs to one [`Position`].

mod derive;
mod seal;
mod sign;

pub(crate) use derive::{Binding, Exchange, Position, channel_root, hash, public_key};
pub(crate) use seal::{PAIR_LEN, SEALED_LEN, Sealed};
pub(crate) use sign::{identity, sign, verify};

#[cfg(test)]
mod tests {
    use super::{Exchange, Position, channel_root};
    use crate::error::SecAggError;
    use crate::secret::Key32;

    const PLACE: Position = Position {
        run: 1,
        round: 2,
        transcript: [3; 32],
    };

    #[test]
    fn both_ends_derive_the_same_mask_key_and_each_direction_its_own_channel_key() {
        let [a, b] = [(); 2].map(|()| Exchange::new(&Key32::random().unwrap()).unwrap());
        let (pa, pb) = (a.public_key().unwrap(), b.public_key().unwrap());
        let bound = PLACE.bound([5; 32]);
        let key = bound.pair_mask_key(&a, 1, 2, &pb).unwrap();
        assert_eq!(key, bound.pair_mask_key(&b, 2, 1, &pa).unwrap());
        let other = PLACE.bound([6; 32]);
        assert_ne!(key, other.pair_mask_key(&b, 2, 1, &pa).unwrap());
        let seed = [7; 32];
        assert_ne!(
            bound.self_mask_key(&seed, 1).unwrap(),
            other.self_mask_key(&seed, 1).unwrap()
        );
        let root = channel_root(1, &a, 1, 2, &pb).unwrap();
        assert_eq!(root, channel_root(1, &b, 2, 1, &pa).unwrap());
        assert_ne!(root, channel_root(2, &a, 1, 2, &pb).unwrap());
        let there = PLACE.channel_key(&root, (1, 2)).unwrap();
        assert_ne!(there, PLACE.channel_key(&root, (2, 1)).unwrap());
        let other = Position { round: 3, ..PLACE };
        assert_ne!(there, other.channel_key(&root, (1, 2)).unwrap());
        let split = Position {
            transcript: [4; 32],
            ..PLACE
        };
        assert_ne!(there, split.channel_key(&root, (1, 2)).unwrap());
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let secret = Exchange::new(&Key32::random().unwrap()).unwrap();
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            let bound = PLACE.bound([0; 32]);
            let refused = bound.pair_mask_key(&secret, 1, 9, &point).unwrap_err();
            assert_eq!(refused, SecAggError::KeyAgreement { node: 9 });
        }
    }

    #[test]
    fn a_sealed_share_opens_only_in_its_place() {
        let key = Key32::random().unwrap();
        let sealed = PLACE.seal(&key, (1, 2), &[5; 80]).unwrap();
        assert_eq!(*PLACE.open(&key, (1, 2), &sealed).unwrap(), [5; 80]);
        assert!(PLACE.open(&key, (2, 1), &sealed).is_err());
        assert!(
            Position { round: 3, ..PLACE }
                .open(&key, (1, 2), &sealed)
                .is_err()
        );
        for place in 0..sealed.len() {
            let mut bad = sealed;
            bad[place] ^= 1;
            assert!(PLACE.open(&key, (1, 2), &bad).is_err());
        }
    }
}
