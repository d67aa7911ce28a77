//! Text for people, JSON for machines. Colours follow `NO_COLOR` and whether anyone is looking (anstream).

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::client::ClientError;

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object (or one a line, for lists that stream).
    Json,
}

/// Where results go.
pub struct Output {
    format: Format,
}

/// Green.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red and bold.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Yellow.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Dim.
pub const DIM: Style = Style::new().dimmed();

/// `text` in `style`.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

impl Output {
    /// Chooses the format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints the value for machines, or what `text` makes of it for people.
    pub fn show(&self, value: &Value, text: impl FnOnce(&Value) -> String) {
        match self.format {
            Format::Json => anstream::println!("{value:#}"),
            Format::Text => anstream::println!("{}", text(value).trim_end()),
        }
    }

    /// One of many, as it comes: a line.
    pub fn line(&self, value: &Value, text: impl FnOnce(&Value) -> String) {
        match self.format {
            Format::Json => anstream::println!("{value}"),
            Format::Text => anstream::println!("{}", text(value).trim_end()),
        }
    }

    /// A line for people only.
    pub fn say(&self, line: impl std::fmt::Display) {
        if self.format == Format::Text {
            anstream::println!("{line}");
        }
    }

    /// The same beside what is printed: to standard error.
    pub fn tell(&self, line: impl std::fmt::Display) {
        if self.format == Format::Text {
            anstream::eprintln!("{line}");
        }
    }

    /// An error: to standard error for people, an object on standard output for machines.
    pub fn error(&self, error: &anyhow::Error) {
        match self.format {
            Format::Text => anstream::eprintln!("{} {error:#}", paint(BAD, "error:")),
            Format::Json => {
                let problem = match error.downcast_ref::<ClientError>() {
                    Some(ClientError::Problem { document, .. }) if document.is_object() => document.clone(),
                    _ => json!({"detail": format!("{error:#}")}),
                };
                anstream::println!("{:#}", json!({"error": problem}));
            }
        }
    }

    /// A progress bar of `total` steps, drawn only when a person looks on.
    pub fn progress(&self, total: u64) -> indicatif::ProgressBar {
        match self.format {
            Format::Text if total > 1 => indicatif::ProgressBar::new(total),
            _ => indicatif::ProgressBar::hidden(),
        }
    }
}
