//! `catenary deployment` and `catenary application`: what runs where, and whether it still may.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw::{items, short, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};

/// What runs where.
#[derive(Subcommand)]
pub enum Deployment {
    /// Tell that something runs, or ended.
    Add {
        /// `registry/repository@sha256:…`
        image: String,
        /// For example `prod`.
        #[arg(long = "environment", alias = "env")]
        environment: String,
        /// For example `shop`.
        #[arg(long)]
        application: String,
        /// For example `deployment/api`.
        #[arg(long)]
        workload: String,
        /// When it started, for example 2026-11-20T10:00:00Z; without it, now.
        #[arg(long)]
        since: Option<String>,
        /// When it ended.
        #[arg(long)]
        until: Option<String>,
        /// It takes the place of whatever else the workload ran.
        #[arg(long)]
        replaces: bool,
    },
    /// List what runs, with the verdict when it started and now.
    List(List),
}

/// Which deployments.
#[derive(Args)]
pub struct List {
    /// Only of this environment.
    #[arg(long = "environment", alias = "env")]
    environment: Option<String>,
    /// Only of this application.
    #[arg(long)]
    application: Option<String>,
    /// Only of this digest.
    #[arg(long)]
    digest: Option<String>,
    /// What ended, too.
    #[arg(long)]
    all: bool,
    /// Only what is not allowed now, or what was allowed when it started and is not any more.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// The most to show.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

/// States that need somebody.
#[derive(Clone, Copy, ValueEnum)]
pub enum State {
    /// Runs and is not allowed now.
    Denied,
    /// Was allowed when it started and is not any more.
    Lapsed,
}

impl Deployment {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Add { image, environment, application, workload, since, until, replaces } => {
                let mut body = json!({"image": image, "environment": environment, "application": application,
                    "workload": workload, "replaces": replaces});
                for (name, moment) in [("since", since), ("until", until)] {
                    if let Some(moment) = moment {
                        body[name] = moment.into();
                    }
                }
                let answer = client.post("/v1/deployments", &body).await?;
                output.show(&answer, |a| {
                    let known = if a["created"] == true { "noted" } else { "known" };
                    format!("{known} {} {}", short(string(&a["id"])), standing(&a["verdict"]))
                });
                Ok(Exit::Allowed)
            }
            Self::List(list) => list.run(client, output).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let mut asked = "/v1/deployments?limit=200".to_owned();
        let state = self.state.map(|state| match state {
            State::Denied => "denied".to_owned(),
            State::Lapsed => "lapsed".to_owned(),
        });
        let named = [
            ("environment", self.environment),
            ("application", self.application),
            ("digest", self.digest),
            ("state", state),
            ("running", (!self.all).then(|| "true".to_owned())),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                asked += &format!("&{name}={}", query(&value));
            }
        }
        let (found, _) = client.list(&asked, "cursor", self.limit).await?;
        output.show(&Value::from(found), |found| match items(found).is_empty() {
            true => "nothing".to_owned(),
            false => items(found).iter().map(line).collect(),
        });
        Ok(Exit::Allowed)
    }
}

fn line(item: &Value) -> String {
    let until = item["until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
    let since =
        format!("since {}{until}, then {}", string(&item["since"]), string(&item["atStart"]["outcome"]));
    format!(
        "{:<10} {:<16} {:<20} {} {} {}\n",
        string(&item["environment"]),
        string(&item["application"]),
        string(&item["workload"]),
        string(&item["image"]),
        standing(&item["now"]),
        paint(DIM, since)
    )
}

/// The outcome with its reason, coloured by what it means for whoever runs it.
fn standing(view: &Value) -> String {
    let text = format!("{} {}", string(&view["outcome"]), string(&view["reason"]));
    let style = match (view["allowed"] == true, view["outcome"] == "PASSED") {
        (true, true) => GOOD,
        (true, false) => WARN,
        (false, _) => BAD,
    };
    paint(style, text.trim())
}

/// Applications.
#[derive(Subcommand)]
pub enum Application {
    /// List applications with something that runs.
    List,
    /// Everything that an application runs, weakest link first.
    Show {
        /// Its name.
        name: String,
    },
}

impl Application {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::List => {
                let (found, _) = client.list("/v1/applications?limit=200", "after", usize::MAX).await?;
                output.show(&Value::from(found), |found| items(found).iter().map(application).collect());
                Ok(Exit::Allowed)
            }
            Self::Show { name } => {
                let name = query(&name).replace('/', "%2F");
                let answer = client.get(&format!("/v1/applications/{name}")).await?;
                output.show(&answer, |a| items(&a["images"]).iter().map(image).collect());
                Ok(if answer["allowed"] == true { Exit::Allowed } else { Exit::Denied })
            }
        }
    }
}

fn application(item: &Value) -> String {
    let style = if item["denied"] == 0 { GOOD } else { BAD };
    let denied = format!("{} denied, {} of them lapsed", item["denied"], item["lapsed"]);
    format!(
        "{:<24} {} images, {} run, {}\n",
        string(&item["name"]),
        item["images"],
        item["running"],
        paint(style, denied)
    )
}

fn image(item: &Value) -> String {
    let head = format!(
        "{} {} {}\n",
        standing(item),
        string(&item["image"]),
        paint(DIM, string(&item["environment"]))
    );
    let reason = &item["reason"];
    if reason.is_null() {
        return head;
    }
    format!(
        "{head}   {} {}: {}\n   {} {}\n",
        paint(BAD, "✗"),
        string(&reason["code"]),
        string(&reason["message"]),
        paint(DIM, "mend:"),
        string(&reason["remediation"]["hint"])
    )
}
