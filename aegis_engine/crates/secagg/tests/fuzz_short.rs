//! The fuzz targets for some seconds, from their seeds, with the same mutations every time: for every `make test`.

#[path = "../../../fuzzing/bounded.rs"]
mod bounded;
#[path = "../../../fuzzing/driver.rs"]
mod driver;

use aegis_secagg::fuzzing;

fn largest() -> usize {
    fuzzing::allocation_max()
}

#[test]
fn no_message_breaks_its_decoder() {
    let seeds = fuzzing::codec_seeds();
    driver::run("codecs", fuzzing::codecs, &seeds, 3_000_000);
}

#[test]
fn a_client_gives_nothing_away_whatever_the_server_sends() {
    let seeds = fuzzing::client_seeds();
    driver::run("client", fuzzing::client, &seeds, 30_000);
}

#[test]
fn no_client_changes_the_sum_of_the_others() {
    let seeds = fuzzing::server_seeds();
    driver::run("server", fuzzing::server, &seeds, 30_000);
}
