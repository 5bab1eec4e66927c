//! Calls the client, and holds it to what it promises.

use super::super::material::{self, NODES, RUN, contribution};
use super::super::program::Program;
use super::attack::Attack;
use super::world::{COMMIT, MASKED, PLACE, SHARE, Shared};
use crate::keys;
use crate::message::{
    CommitRequest, MaskedInput, ShareReply, ShareRequest, UnmaskReply, UnmaskRequest,
};
use crate::wire::Header;

impl Attack<'_> {
    /// Calls the client, and holds it to what it promises whatever comes.
    pub(super) fn deliver(&mut self, kind: u8, message: &[u8], program: &mut Program) {
        let before = self.client.to_bytes();
        let answer = match kind {
            SHARE => self.client.share(message),
            MASKED => {
                let (mut values, weight, metrics) = contribution(PLACE);
                let odd = program.byte();
                if odd == 255 {
                    values[0] = f32::NAN;
                }
                let dry = self.client.check_masked(message, values.len());
                assert!(
                    *self.client.to_bytes() == *before,
                    "a dry run changed the state"
                );
                // whatever it works on: that decides which masks come out, never whether they do
                let binding = [odd % 2; 32];
                let reply = self
                    .client
                    .masked_input(message, &binding, &values, weight, &metrics);
                let finite = values[0].is_finite();
                assert_eq!(
                    dry.is_ok() && finite,
                    reply.is_ok(),
                    "a dry run says what comes"
                );
                if reply.is_ok() {
                    self.given.binding = binding;
                }
                reply
            }
            COMMIT => self.client.commit(message),
            _ => self.client.unmask(message),
        };
        match answer {
            Err(error) => {
                assert!(
                    *self.client.to_bytes() == *before,
                    "a refused call changed the state: {error}"
                );
                self.refused = Some(error);
            }
            Ok(reply) => match kind {
                SHARE => self.shared(message, &reply),
                MASKED => self.masked(&reply),
                COMMIT => self.committed(message),
                _ => self.unmasked(message, &reply),
            },
        }
        assert_eq!(
            self.client.round(),
            self.given.round,
            "rounds begin with shares only"
        );
    }

    fn shared(&mut self, request: &[u8], reply: &[u8]) {
        let (header, parsed) = ShareRequest::from_bytes(request).expect("it was answered");
        if let Some(round) = self.round.as_ref().filter(|round| round.request == request) {
            assert!(round.reply == reply, "one answer to one request");
            assert!(self.given.masked != Some(header.round));
            return;
        }
        let bytes = reply;
        let (mine, reply) = ShareReply::from_bytes(bytes).expect("a share reply");
        assert!(header.round > self.given.round, "rounds only go forward");
        let (plan, own) = (&parsed.plan, material::sums());
        assert!(
            plan.metrics == own.metrics
                && plan.encoding.metric_max == own.metric_max
                && plan.encoding.weight_max <= own.weight_max,
            "the sums are the client's own"
        );
        assert_eq!(
            mine,
            Header {
                node: NODES[PLACE],
                ..header
            }
        );
        let cohort = parsed
            .cohort
            .iter()
            .filter_map(|advert| place_of(advert.node));
        self.given.round = header.round;
        self.round = Some(Shared {
            header,
            request: request.to_vec(),
            transcript: keys::hash(crate::client::share::COHORT, &[request]),
            cohort: cohort.collect(),
            reply: bytes.to_vec(),
            key: reply.key,
            near: reply.sealed.iter().map(|(node, _)| *node).collect(),
        });
    }

    fn masked(&mut self, reply: &[u8]) {
        let plan = self.client.plan().expect("a round is in progress");
        let (width, len) = (plan.width().expect("checked"), plan.len().expect("checked"));
        let (header, _) = MaskedInput::from_bytes(reply, width, len).expect("a masked input");
        assert_eq!((header.run, header.round), (RUN, self.given.round));
        assert!(
            self.given.masked.is_none_or(|last| last < header.round),
            "at most one masked input a round"
        );
        self.given.masked = Some(header.round);
    }

    fn committed(&mut self, request: &[u8]) {
        let (header, request) = CommitRequest::from_bytes(request).expect("it was answered");
        assert_eq!(self.given.masked, Some(header.round));
        let signed = self.given.signed.entry(header.round);
        let signed = signed.or_insert_with(|| request.sets.clone());
        assert!(*signed == request.sets, "one signed set a round");
    }

    fn unmasked(&mut self, request: &[u8], reply: &[u8]) {
        let (header, request) = UnmaskRequest::from_bytes(request).expect("it was answered");
        let (mine, reply) = UnmaskReply::from_bytes(reply).expect("an unmask reply");
        assert_eq!(mine, header);
        assert_eq!(self.given.masked, Some(header.round));
        let commit = self.round.as_ref().is_some_and(|round| {
            let (_, parsed) = ShareRequest::from_bytes(&round.request).expect("it was answered");
            parsed.shape.commit
        });
        if commit {
            assert!(
                self.given.signed.get(&header.round) == Some(&request.sets),
                "only the signed set is unmasked"
            );
        }
        for (list, seeds) in [(&reply.seeds, true), (&reply.secrets, false)] {
            for (node, _) in list {
                let before = self.given.kinds.insert((header.round, *node), seeds);
                assert!(
                    before.is_none_or(|before| before == seeds),
                    "never both kinds"
                );
            }
        }
        let me = (header.round, NODES[PLACE]);
        assert_ne!(
            self.given.kinds.get(&me),
            Some(&false),
            "its own mask secret"
        );
        if let (Some(next), Some(asked)) = (reply.next, request.next) {
            self.shared(asked, next);
        }
    }
}

fn place_of(node: u64) -> Option<usize> {
    NODES.iter().position(|known| *known == node)
}
