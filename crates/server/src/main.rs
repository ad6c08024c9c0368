//! `millstream`: the broker, and the commands people use at a terminal.
//!
//! `serve` opens a broker and its listeners ([`serve`]); every other command speaks to a running one over HTTP ([`cli`]). No semantics
//! here: they are the broker's.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod full;
mod http;
mod serve;

use std::process::ExitCode;

use clap::Parser;

/// Built without huge pages (feature `no_thp`): a kernel that backs two touched pages with 2 MiB makes the process half as large again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    match cli::run(args) {
        Ok(code) => code,
        Err(e) if e.is::<cli::NobodyReads>() => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("millstream: {e:#}");
            ExitCode::FAILURE
        }
    }
}
