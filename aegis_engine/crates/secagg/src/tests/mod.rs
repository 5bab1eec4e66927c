//! Whole-protocol tests, and the cohort they all drive.

mod chi_square;
mod coalition;
mod codec;
mod constants;
mod damage;
mod everyone_but_one;
mod hostile_cohort;
mod hostile_round;
mod inconsistent;
mod lying_client;
mod protocol;
mod roster;
mod shapes;
mod split_views;
mod steady;
mod uniform;
mod vectors;
mod view;

use std::collections::BTreeMap;

use crate::{ClientLimits, ClientRun, Encoding, Plan, Roster, SecAggError, ServerRun};

pub(super) const RUN: u64 = 77;
/// What all clients of these tests work on.
pub(super) const BINDING: [u8; 32] = [9; 32];

pub(super) fn plan(dim: u64, metrics: &[&str]) -> Plan {
    Plan {
        dim,
        metrics: metrics.iter().map(|name| (*name).to_owned()).collect(),
        encoding: Encoding {
            clip: 1.0,
            value_bits: 16,
            weight_max: 50,
            metric_max: 1_000_000,
        },
        n_max: 64,
    }
}

pub(super) fn limits(min_cohort: u32) -> ClientLimits {
    ClientLimits {
        min_cohort,
        min_honest: 1,
        ..ClientLimits::default()
    }
}

/// A server and its clients, stepped by hand.
pub(super) struct Cohort {
    pub server: ServerRun,
    pub clients: BTreeMap<u64, ClientRun>,
    /// The round that follows, and its share request, while that rides in the unmask step.
    pub next: Option<(ServerRun, Vec<u8>)>,
}

impl Cohort {
    /// Clients with scattered, ordered ids.
    pub(super) fn new(n: u64, plan: Plan) -> Self {
        Self::of(n, ServerRun::new(RUN, plan, 2).unwrap())
    }

    pub(super) fn of(n: u64, mut server: ServerRun) -> Self {
        server.bind(BINDING);
        let ids = (0..n).map(|i| i * 1_000_003 + 5);
        let clients = ids
            .map(|id| (id, ClientRun::new(RUN, id, limits(2)).unwrap()))
            .collect();
        let mut cohort = Self {
            server,
            clients,
            next: None,
        };
        for (id, client) in &cohort.clients {
            cohort
                .server
                .add_advert(*id, &client.advertise().unwrap())
                .unwrap();
        }
        cohort
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.clients.keys().copied().collect()
    }

    pub(super) fn roster(&self) -> Roster {
        let clients = self.clients.values();
        clients.map(|client| client.identity().unwrap()).collect()
    }

    /// The share step for all but `lost`; every client is written to bytes and read back on the way.
    pub(super) fn share(&mut self, round: u64, lost: &[u64]) -> Result<(), SecAggError> {
        let request = self.server.begin_round(round, &self.ids())?;
        for (id, client) in self.clients.iter_mut().filter(|(id, _)| !lost.contains(id)) {
            let reply = client.share(&request)?;
            *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
            self.server.add_share(*id, &reply)?;
        }
        Ok(())
    }

    /// The mask step; `update` gives each client's contribution.
    pub(super) fn mask(
        &mut self,
        lost: &[u64],
        update: impl Fn(u64) -> (Vec<f32>, u64, Vec<i64>),
    ) -> Result<(), SecAggError> {
        for id in self.server.end_shares()? {
            let request = self.server.masked_request(id)?;
            let Some(client) = self.clients.get_mut(&id).filter(|_| !lost.contains(&id)) else {
                continue;
            };
            let (values, weight, metrics) = update(id);
            let reply = client.masked_input(&request, &BINDING, &values, weight, &metrics)?;
            *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
            self.server.add_masked(id, &reply)?;
        }
        Ok(())
    }

    /// Ends the share step and gives every masked request.
    pub(super) fn masked_requests(&mut self) -> Vec<(u64, Vec<u8>)> {
        let nodes = self.server.end_shares().unwrap();
        let server = &self.server;
        nodes
            .into_iter()
            .map(|id| (id, server.masked_request(id).unwrap()))
            .collect()
    }

    /// The commit step, where the round has one, for all survivors but `lost`.
    pub(super) fn commit(&mut self, lost: &[u64]) -> Result<(), SecAggError> {
        let survivors = self.server.end_masked()?;
        let Ok(request) = self.server.commit_request() else {
            return Ok(());
        };
        for id in survivors.into_iter().filter(|id| !lost.contains(id)) {
            let client = self.clients.get_mut(&id).unwrap();
            let reply = client.commit(&request)?;
            *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
            self.server.add_commit(id, &reply)?;
        }
        Ok(())
    }

    /// Lets the share request of a round over these clients ride in the unmask step.
    pub(super) fn plan_next(&mut self, ids: &[u64]) {
        let mut server = self.server.fork();
        let request = server.begin_round(self.server.round() + 1, ids).unwrap();
        server.bind(BINDING);
        self.next = Some((server, request));
    }

    /// Goes on with the round that was planned; gives those whose shares did not come.
    pub(super) fn begin_next(&mut self) -> (Vec<u64>, Vec<u8>) {
        let (server, request) = self.next.take().unwrap();
        self.server = server;
        (self.server.missing(), request)
    }

    pub(super) fn unmask(&mut self, lost: &[u64]) -> Result<crate::Sum, SecAggError> {
        self.commit(&[])?;
        for id in self.server.end_masked()? {
            if lost.contains(&id) {
                continue;
            }
            let client = self.clients.get_mut(&id).unwrap();
            let next = self.next.as_ref().map(|(_, request)| &request[..]);
            let reply = client.unmask(&self.server.unmask_request(id, next)?)?;
            *client = ClientRun::from_bytes(&client.to_bytes()).unwrap();
            let riding = self.server.add_unmask(id, &reply)?;
            if let (Some((server, _)), Some(share)) = (&mut self.next, riding) {
                server.add_share(id, &share)?;
            }
        }
        self.server.finish()
    }
}

#[test]
fn state_machines_can_move_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<ClientRun>();
    check::<ServerRun>();
}
