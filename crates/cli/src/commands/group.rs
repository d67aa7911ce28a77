//! `catenary group`: whom policies mean by a name.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{GOOD, Output, paint},
};

/// Groups.
#[derive(Subcommand)]
pub enum Group {
    /// Set the members of a group: those that are given, and no others. With none there is no such group.
    Set {
        /// Its name: lower-case letters, digits, dots and dashes.
        name: String,
        /// A registered key, whose signatures count where a policy asks for the group's. Repeat for several.
        #[arg(long = "key", value_name = "ID")]
        keys: Vec<String>,
        /// A principal, for example `token:4fGh2kQz81`, whose approvals count. Repeat for several.
        #[arg(long = "principal", value_name = "PRINCIPAL")]
        principals: Vec<String>,
    },
    /// List groups and their members.
    List,
}

impl Group {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Set { name, keys, principals } => {
                let body = json!({"keys": keys, "principals": principals});
                let request = client.request(reqwest::Method::PUT, &format!("/v1/groups/{name}")).json(&body);
                let answer: Value = client.send(request).await?.json().await?;
                output.show(&answer, |a| format!("{} {}", paint(GOOD, "set"), drawn(a)));
            }
            Self::List => {
                let answer = client.get("/v1/groups").await?;
                output
                    .show(&answer, |a| items(&a["items"]).iter().map(|group| drawn(group) + "\n").collect());
            }
        }
        Ok(Exit::Allowed)
    }
}

/// A group on one line.
fn drawn(group: &Value) -> String {
    let members = items(&group["keys"]).iter().chain(items(&group["principals"]));
    let members: Vec<&str> = members.map(string).collect();
    format!(
        "{}: {}",
        string(&group["name"]),
        if members.is_empty() { "nobody".to_owned() } else { members.join(" ") }
    )
}
