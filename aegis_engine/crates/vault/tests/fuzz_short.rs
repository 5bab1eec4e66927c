//! The fuzz targets for some seconds, from their seeds, with the same mutations every time: for every `make test`.

#[path = "../../../fuzzing/bounded.rs"]
mod bounded;
#[path = "../../../fuzzing/driver.rs"]
mod driver;

use aegis_vault::fuzzing;

fn largest() -> usize {
    fuzzing::ALLOCATION_MAX
}

#[test]
fn no_header_breaks_the_decoder() {
    let seeds = fuzzing::header_seeds();
    driver::run("header", fuzzing::header, &seeds, 3_000_000);
}

#[test]
fn no_keystore_breaks_a_decoder() {
    let seeds = fuzzing::keystore_seeds();
    driver::run("keystore", fuzzing::keystore, &seeds, 1_000_000);
}

#[test]
fn no_altered_object_is_read_as_a_whole_one() {
    let seeds = fuzzing::reader_seeds();
    driver::run("reader", fuzzing::reader, &seeds, 100_000);
    fuzzing::clean();
}
