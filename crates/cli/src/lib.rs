//! The `catenary` command.
//!
//! Every command is a file in `commands/`; this one parses arguments and turns the result into an exit code:
//! 0 allowed, 1 denied, 2 indeterminate, 3 usage or configuration, 4 not permitted, 5 service unreachable.

pub mod check;
mod client;
mod commands;
mod draw;
mod exit;
mod oci;
mod offline;
mod output;
mod remote;
mod sign;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::{client::Client, exit::Exit, output::Output};

/// A first verdict allocates thousands of small things, which cost the system's allocator a fifth of its time (docs/adr/0011).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Is this image's chain, from commit through build to registry, unbroken and trusted?
#[derive(Parser)]
#[command(name = "catenary", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    /// The service's address.
    #[arg(long, global = true, env = "CATENARY_SERVER", default_value = "http://127.0.0.1:8440")]
    server: String,
    /// API token, or a CI's OIDC token. Default: the admin token that `serve` left in its data folder.
    #[arg(long, global = true, env = "CATENARY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    tls: client::Tls,
    /// For people (text) or machines (json).
    #[arg(long, global = true, value_enum, default_value_t = output::Format::Text)]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service.
    Serve(commands::serve::Serve),
    /// Build, sign, push and judge a real image, then attack it.
    Demo(commands::demo::Demo),
    /// Send attestations: files, globs, or `-` for standard input.
    Push(commands::push::Push),
    /// Bring in evidence that lies elsewhere: a folder, a registry, git notes, GitHub.
    #[command(subcommand)]
    Import(commands::import::Import),
    /// Write and sign a statement about a commit, a build or a push.
    #[command(subcommand)]
    Attest(commands::attest::Attest),
    /// May this image run here?
    Verdict(commands::verdict::Verdict),
    /// The same, with the chain drawn and every broken link's mend.
    Explain(commands::verdict::Explain),
    /// Which images contain a package.
    Components(commands::components::Ask),
    /// Which images are hit by a vulnerability, as scans, VEX documents and SBOMs say.
    Findings(commands::components::Ask),
    /// What runs where, and whether it still may.
    #[command(subcommand)]
    Deployment(commands::deployment::Deployment),
    /// Applications: everything that one runs, weakest link first.
    #[command(subcommand)]
    Application(commands::deployment::Application),
    /// What happened, and what happens.
    Events(commands::events::Events),
    /// Receivers that are told what happens.
    #[command(subcommand)]
    Webhook(commands::webhook::Webhook),
    /// What is hit by a key, an identity, a builder, a commit, a repository, an image, a package, a vulnerability.
    Impact(Box<commands::impact::Impact>),
    /// What a policy would change, before it is applied.
    WhatIf(commands::impact::WhatIf),
    /// Verify evidence files offline, without a server.
    Check(commands::check::Check),
    /// Verify one Sigstore bundle (the conformance suite's client).
    VerifyBundle(commands::check::VerifyBundle),
    /// Sign a file as a Sigstore bundle, by servers that are given (the conformance suite's client).
    SignBundle(commands::sign_bundle::SignBundle),
    /// Signing keys: yours, and those that the service trusts.
    #[command(subcommand)]
    Key(commands::key::Key),
    /// Groups: whom policies mean by a name.
    #[command(subcommand)]
    Group(commands::group::Group),
    /// Trust roots: certificate authorities, logs, timestamp authorities.
    #[command(subcommand)]
    Trust(commands::trust::Trust),
    /// Withdraw trust from a key, an identity, a builder, an attestation, an image, a commit or an authority.
    #[command(subcommand)]
    Revoke(commands::revoke::Revoke),
    /// API tokens.
    #[command(subcommand)]
    Token(commands::token::Token),
    /// Tenants (with a platform administrator's token).
    #[command(subcommand)]
    Tenant(commands::tenant::Tenant),
    /// What is trusted, for which images.
    #[command(subcommand)]
    Policy(commands::policy::Policy),
    /// One image, for a while, in spite of a broken chain.
    #[command(subcommand)]
    Exception(commands::exception::Exception),
    /// The tamper-evident log.
    #[command(subcommand)]
    Log(commands::log::Log),
    /// What happened in the minutes before and after.
    Timeline(commands::timeline::Timeline),
    /// What was answered to whom.
    #[command(subcommand)]
    Decisions(commands::decisions::Decisions),
    /// The registries whose pushes are collected.
    #[command(subcommand)]
    Registry(commands::registry::Registry),
    /// Verify a signed verdict, with no service.
    VerifyVsa(commands::vsa::VerifyVsa),
}

/// Parses the arguments and runs the command.
#[tokio::main]
pub async fn main() -> std::process::ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Allowed.into() };
        }
    };
    let output = Output::new(arguments.output);
    let client = match Client::new(arguments.server, arguments.token, &arguments.tls) {
        Ok(client) => client,
        Err(error) => {
            output.error(&error);
            return Exit::Usage.into();
        }
    };
    let result = match arguments.command {
        Command::Serve(command) => command.run().await,
        Command::Demo(command) => command.run(&output).await,
        Command::Push(command) => command.run(&client, &output).await,
        Command::Import(command) => command.run(&client, &output).await,
        Command::Attest(command) => command.run(&output).await,
        Command::Verdict(command) => command.run(&client, &output).await,
        Command::Explain(command) => command.run(&client, &output).await,
        Command::Components(command) => command.run("/v1/components", &client, &output).await,
        Command::Findings(command) => command.run("/v1/findings", &client, &output).await,
        Command::Deployment(command) => command.run(&client, &output).await,
        Command::Application(command) => command.run(&client, &output).await,
        Command::Events(command) => command.run(&client, &output).await,
        Command::Webhook(command) => command.run(&client, &output).await,
        Command::Impact(command) => command.run(&client, &output).await,
        Command::WhatIf(command) => command.run(&client, &output).await,
        Command::Check(command) => command.run(&output),
        Command::VerifyBundle(command) => command.run(&output),
        Command::SignBundle(command) => command.run(&output).await,
        Command::Key(command) => command.run(&client, &output).await,
        Command::Group(command) => command.run(&client, &output).await,
        Command::Trust(command) => command.run(&client, &output).await,
        Command::Revoke(command) => command.run(&client, &output).await,
        Command::Token(command) => command.run(&client, &output).await,
        Command::Tenant(command) => command.run(&client, &output).await,
        Command::Policy(command) => command.run(&client, &output).await,
        Command::Timeline(command) => command.run(&client, &output).await,
        Command::Decisions(command) => command.run(&client, &output).await,
        Command::Exception(command) => command.run(&client, &output).await,
        Command::Log(command) => command.run(&client, &output).await,
        Command::Registry(command) => command.run(&client, &output).await,
        Command::VerifyVsa(command) => command.run(&output),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error);
            exit::of(&error).into()
        }
    }
}
