//! Cases, as JSON for machines and as a table for people.

use anyhow::Result;
use serde_json::{Value, json};

use super::{cases::Bench, client::Sample};

/// Which side of its mark a ratio must be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// A rate over a ceiling.
    AtLeast,
    /// A cost over a cost.
    AtMost,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What was measured.
    pub own: Figures,
    /// What it is compared with, in words.
    pub ceiling_name: &'static str,
    /// What it is compared with.
    pub ceiling: Figures,
    /// The ratio.
    pub ratio: f64,
    /// What the ratio must reach or stay under.
    pub mark: f64,
    /// Which of the two.
    pub bound: Bound,
    /// Anything else that must hold, and whether it did.
    pub also: Vec<(String, bool)>,
    /// Cost in microseconds by the number of attestations.
    pub curve: Vec<(u64, f64)>,
}

/// One side of a ratio.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Operations a second.
    pub rate: f64,
    /// Microseconds.
    pub p50: u32,
    /// Microseconds.
    pub p99: u32,
    /// Microseconds.
    pub p999: u32,
    /// Processor time of an operation in microseconds: the service or the ceiling, and the database.
    pub cpu: Option<f64>,
    /// Resident bytes of the service or the ceiling at the end.
    pub rss: Option<u64>,
}

impl Figures {
    /// Of a run of the load generator.
    pub fn of(sample: &Sample) -> Self {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| sample.percentile(share));
        Self { rate: sample.rate, p50, p99, p999, cpu: None, rss: None }
    }

    /// A rate alone.
    pub fn rate(rate: f64) -> Self {
        Self { rate, ..Self::default() }
    }
}

impl Case {
    /// A rate that must reach `mark` of its ceiling's.
    pub fn rate(
        name: &'static str,
        own: Figures,
        ceiling_name: &'static str,
        ceiling: Figures,
        mark: f64,
    ) -> Self {
        let ratio = own.rate / ceiling.rate;
        let (also, curve) = (Vec::new(), Vec::new());
        Self { name, own, ceiling_name, ceiling, ratio, mark, bound: Bound::AtLeast, also, curve }
    }

    /// A cost that must not grow beyond `mark` times the other's.
    pub fn growth(
        name: &'static str,
        own: Figures,
        ceiling_name: &'static str,
        ceiling: Figures,
        mark: f64,
    ) -> Self {
        let case = Self::rate(name, own, ceiling_name, ceiling, mark);
        Self { ratio: 1.0 / case.ratio, bound: Bound::AtMost, ..case }
    }

    /// The same over data sets of growing size: the largest against the smallest.
    pub fn grown(name: &'static str, bench: &Bench, figures: [Figures; 3], mark: f64) -> Self {
        let sizes = bench.by_size().map(|stage| stage.size());
        let curve = sizes.into_iter().zip(figures.iter().map(|f| 1e6 / f.rate)).collect();
        let [small, _, large] = figures;
        Self { curve, ..Self::growth(name, large, "a hundredth of the data", small, mark) }
    }

    /// Something else that must hold.
    pub fn also(mut self, what: String, holds: bool) -> Self {
        self.also.push((what, holds));
        self
    }

    /// Whether everything holds.
    pub fn ok(&self) -> bool {
        let within = match self.bound {
            Bound::AtLeast => self.ratio >= self.mark,
            Bound::AtMost => self.ratio <= self.mark,
        };
        within && self.also.iter().all(|(_, holds)| *holds)
    }

    fn to_json(&self) -> Value {
        let figures = |f: &Figures| {
            json!({"rate": round(f.rate), "p50_us": f.p50, "p99_us": f.p99, "p999_us": f.p999,
                   "cpu_us": f.cpu.map(round), "rss_bytes": f.rss})
        };
        let also: Vec<Value> = self.also.iter().map(|(what, ok)| json!({"what": what, "ok": ok})).collect();
        json!({
            "case": self.name, "rate": round(self.own.rate), "p50_us": self.own.p50, "p99_us": self.own.p99,
            "ceiling": self.ceiling_name, "ceiling_rate": round(self.ceiling.rate), "ratio": round(self.ratio),
            "bound": if self.bound == Bound::AtLeast { "at least" } else { "at most" },
            "mark": self.mark, "ok": self.ok(), "also": also, "curve": self.curve,
            "own": figures(&self.own), "against": figures(&self.ceiling),
        })
    }
}

fn round(n: f64) -> f64 {
    let scale = if n.abs() < 100.0 { 1000.0 } else { 1.0 };
    (n * scale).round() / scale
}

/// What a run gave.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<Case>,
    /// Cases that could not be measured, and why.
    failed: Vec<(&'static str, String)>,
}

impl Report {
    /// Takes in what was measured under a name, and shows it to whoever waits.
    pub fn add(&mut self, name: &'static str, measured: Result<Vec<Case>>) {
        match measured {
            Ok(cases) => {
                cases.iter().for_each(|case| eprint!("{}", rows(case)));
                self.cases.extend(cases);
            }
            Err(error) => {
                eprintln!("{name}: {error:?}");
                self.failed.push((name, format!("{error:#}")));
            }
        }
    }

    /// Whether everything was measured and is on its side of its mark.
    pub fn ok(&self) -> bool {
        self.failed.is_empty() && self.cases.iter().all(Case::ok)
    }

    /// `{"cases": […], "failed": […]}`.
    pub fn json(&self) -> Value {
        let failed = self.failed.iter().map(|(case, why)| json!({"case": case, "why": why}));
        let cases = self.cases.iter().map(Case::to_json);
        json!({"cases": cases.collect::<Vec<_>>(), "failed": failed.collect::<Vec<_>>()})
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| case | rate/s | p50/p99/p99.9 µs | CPU µs | RSS MB | against | its rate/s | its p50/p99/p99.9 µs | its CPU µs | ratio | mark | |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        text.extend(self.cases.iter().map(rows));
        let failed =
            |(case, why): &(&str, String)| format!("| {case} | | | | | {why} | | | | | | **failed** |\n");
        text.extend(self.failed.iter().map(failed));
        text
    }

    /// The page that people read, with the plot in a file beside it.
    pub fn page(&self, size: u64, plot: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "# Benchmarks

Written by `cargo run --release -p bench -- all --size {size} --page docs/benchmarks.md` on {cores} cores, which
service, Postgres and load generator share. Every figure is a ratio to a ceiling measured in the same run: rates
differ from machine to machine, ratios hardly do. `--output json` prints the same for machines, `--data FOLDER`
keeps the data set for another run, `--case NAME,NAME` runs the cases whose names begin so.

{}
![Cost against size]({plot})
",
            self.table()
        )
    }

    /// Cost against size, each curve relative to its smallest data set, as SVG.
    pub fn plot(&self) -> String {
        const COLOURS: [&str; 4] = ["#0b6", "#06b", "#b60", "#b06"];
        let curves: Vec<&Case> = self.cases.iter().filter(|case| case.curve.len() > 1).collect();
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 320\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"640\" height=\"320\" fill=\"#fff\"/>\n",
        );
        let y = |cost: f64| 280.0 - (cost.min(2.0) * 120.0);
        for line in [0.0, 0.5, 1.0, 1.5, 2.0] {
            let at = y(line);
            svg += &format!(
                "<path d=\"M60 {at}H600\" stroke=\"#ddd\"/><text x=\"30\" y=\"{at}\">{line}</text>\n"
            );
        }
        for (case, colour) in curves.iter().zip(COLOURS) {
            let first = case.curve[0].1;
            let step = 500.0 / (case.curve.len() - 1) as f64;
            let points = case.curve.iter().enumerate().map(|(n, (size, cost))| {
                let (x, y) = (80.0 + n as f64 * step, y(cost / first));
                svg += &format!("<circle cx=\"{x}\" cy=\"{y:.0}\" r=\"4\" fill=\"{colour}\"/><text x=\"{x}\" y=\"300\" text-anchor=\"middle\">{size}</text>\n");
                format!("{x},{y:.0}")
            });
            let points = points.collect::<Vec<_>>().join(" ");
            svg += &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"/>\n");
        }
        for (n, (case, colour)) in curves.iter().zip(COLOURS).enumerate() {
            svg += &format!("<text x=\"80\" y=\"{}\" fill=\"{colour}\">{}</text>\n", 20 + 16 * n, case.name);
        }
        svg + "<text x=\"340\" y=\"316\" text-anchor=\"middle\">attestations (cost relative to the smallest)</text>\n</svg>\n"
    }
}

/// The lines of one case.
fn rows(case: &Case) -> String {
    let (own, other) = (&case.own, &case.ceiling);
    let sign = if case.bound == Bound::AtLeast { "≥" } else { "≤" };
    let mut text = format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | **{:.2}** | {sign} {} | {} |\n",
        case.name,
        number(own.rate),
        latencies(own),
        own.cpu.map(|c| format!("{c:.0}")).unwrap_or_default(),
        own.rss.map(|bytes| (bytes / 1_000_000).to_string()).unwrap_or_default(),
        case.ceiling_name,
        number(other.rate),
        latencies(other),
        other.cpu.map(|c| format!("{c:.0}")).unwrap_or_default(),
        case.ratio,
        case.mark,
        if case.ok() { "ok" } else { "**missed**" },
    );
    for (what, holds) in &case.also {
        text += &format!("| | | | | | {what} | | | | | | {} |\n", if *holds { "ok" } else { "**missed**" });
    }
    text
}

fn latencies(figures: &Figures) -> String {
    if figures.p50 == 0 { String::new() } else { format!("{}/{}/{}", figures.p50, figures.p99, figures.p999) }
}

fn number(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.2}") } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown() -> Case {
        let figures = |rate, p50| Figures { rate, p50, p99: 20, p999: 30, ..Figures::default() };
        let curve = vec![(10, 100.0), (100, 110.0), (1_000, 120.0)];
        let case = Case::growth("growth", figures(1e6 / 120.0, 9), "a hundredth", figures(1e4, 8), 1.3);
        Case { curve, ..case }
    }

    fn report(cases: Vec<Case>) -> Report {
        Report { cases, failed: Vec::new() }
    }

    #[test]
    fn machines_are_told_each_figure_by_its_name() {
        let told = report(vec![grown()]).json();
        let case = &told["cases"][0];
        for (name, expected) in [("case", json!("growth")), ("p50_us", json!(9)), ("p99_us", json!(20))] {
            assert_eq!(case[name], expected, "{name}");
        }
        for (name, expected) in [("rate", 8333.0), ("ceiling_rate", 1e4), ("ratio", 1.2), ("mark", 1.3)] {
            assert_eq!(case[name], json!(expected), "{name}");
        }
        assert_eq!(case["ok"], json!(true));
    }

    #[test]
    fn a_case_that_fails_takes_nothing_from_the_others_and_is_not_passed_over() {
        let mut report = report(vec![grown()]);
        assert!(report.ok());
        report.add("other", Err(anyhow::anyhow!("the port").context("cannot be listened to")));
        assert!(!report.ok());
        assert!(report.table().contains("| other | | | | | cannot be listened to: the port |"));
        assert_eq!(
            report.json()["failed"],
            json!([{"case": "other", "why": "cannot be listened to: the port"}])
        );
        assert_eq!(report.json()["cases"][0]["case"], "growth");
    }

    #[test]
    fn the_page_shows_the_plot_beside_it() {
        let case = grown();
        let report = report(vec![case.clone(), Case { curve: Vec::new(), ..case }]);
        assert!(report.page(1_000, "plot.svg").contains("](plot.svg)"));
        let svg = report.plot();
        assert_eq!(svg.matches("<polyline").count(), 1, "one curve has sizes");
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
