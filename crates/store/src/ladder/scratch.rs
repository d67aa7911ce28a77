//! A database of its own on someone else's server, for what must not touch the one that the URL names.

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::{Database, LadderError};

/// A database that is dropped with [`Scratch::remove`].
#[derive(Debug)]
pub struct Scratch {
    server: PgConnectOptions,
    name: String,
}

impl Scratch {
    /// Makes the database `name`, which only has letters, digits and `_`.
    pub async fn make(url: &str, name: &str) -> Result<Self, LadderError> {
        let server: PgConnectOptions = url.parse().map_err(LadderError::Url)?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let name: String = name.bytes().filter(|b| plain(*b)).map(char::from).collect();
        let scratch = Self { server, name };
        scratch.execute("create database").await.map_err(LadderError::Scratch)?;
        Ok(scratch)
    }

    /// How to connect to it.
    pub fn database(&self) -> Database {
        Database::Url(self.server.clone().database(&self.name))
    }

    /// Drops it. Close every connection first.
    pub async fn remove(self) -> Result<(), LadderError> {
        self.execute("drop database if exists").await.map_err(LadderError::Scratch)
    }

    async fn execute(&self, verb: &str) -> Result<(), sqlx::Error> {
        let mut connection = self.server.connect().await?;
        // The name is plain (see `make`): nothing in it needs quoting, and it cannot be a parameter.
        let statement = format!("{verb} \"{}\"", self.name);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await
    }
}
