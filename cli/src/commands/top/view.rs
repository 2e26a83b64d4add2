// SPDX-License-Identifier: MIT OR Apache-2.0

//! A frame: who serves which pool, its figures, its throughput, its operations.
//!
//! Where there is too little room, the operations lose rows first, then the lower parts vanish. Nothing is drawn beyond
//! the area.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, Widget};
use vexfs::metrics::Distribution;

use super::model::{Operation, Pool, Sort, Top};
use crate::figures::{bytes, latency, number, percent, ratio, span};
use crate::served;

/// Lines of each part.
const HEAD: u16 = 2;
const FIGURES: u16 = 10;
const THROUGHPUT: u16 = 3;
const FOOT: u16 = 1;

/// See the module.
pub(super) struct View<'a> {
    top: &'a Top,
    operations: Vec<Operation>,
}

impl<'a> View<'a> {
    pub(super) fn new(top: &'a Top) -> Self {
        let operations = top.pool().map(|pool| pool.operations(top.sort()));
        Self {
            top,
            operations: operations.unwrap_or_default(),
        }
    }

    /// Lines that show everything.
    pub(super) fn height(&self) -> u16 {
        let operations = u16::try_from(self.operations.len()).unwrap_or(u16::MAX).min(200);
        HEAD + FIGURES + THROUGHPUT + FOOT + operations + 1
    }
}

impl Widget for View<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let Some(pool) = self.top.pool() else {
            let message = self
                .top
                .trouble()
                .unwrap_or("no pool is served; this waits for one, q quits");
            Paragraph::new(message).render(area, buffer);
            return;
        };
        let parts = [
            Constraint::Length(HEAD),
            Constraint::Length(FIGURES),
            Constraint::Length(THROUGHPUT),
            Constraint::Min(0),
            Constraint::Length(FOOT),
        ];
        let [head_area, figures_area, throughput_area, operations_area, foot_area] =
            Layout::vertical(parts).areas(area);
        head(self.top, pool).render(head_area, buffer);
        Paragraph::new(figures(pool)).render(figures_area, buffer);
        throughput(pool, throughput_area, buffer);
        operations(&self.operations, self.top.sort()).render(operations_area, buffer);
        foot(self.top).render(foot_area, buffer);
    }
}

const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
const NAME: Style = Style::new().fg(Color::Cyan);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

fn head(top: &Top, pool: &Pool) -> Paragraph<'static> {
    let status = pool.status();
    let facts = &status.server.facts;
    let up = status.time("vexfs_pool_uptime_seconds").map(span).unwrap_or_default();
    let style = if status.pool.mode == "failed" {
        ALARM
    } else {
        Style::new()
    };
    let mut first = vec![
        Span::styled(format!("vexfs-ublk top  {}", served::name(status)), TITLE),
        Span::raw("  "),
        Span::styled(status.pool.mode.clone(), style),
        Span::raw(format!("  up {up}")),
    ];
    if top.pools().len() > 1 {
        first.push(Span::raw(format!(
            "  pool {} of {}",
            top.index() + 1,
            top.pools().len()
        )));
    }
    if top.is_paused() {
        first.push(Span::styled("  paused", ALARM));
    }
    let second = format!(
        "{}, process {}, at {}; {}",
        facts.front_end,
        status.server.pid,
        facts.mount_point.as_deref().unwrap_or("-"),
        facts.pool
    );
    Paragraph::new(vec![Line::from(first), Line::raw(second)])
}

/// A bar of so many cells.
fn bar(part: u64, whole: u64, cells: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the number of cells"
    )]
    let filled = (ratio(part, whole) * cells as f64).round() as usize;
    format!("{}{}", "█".repeat(filled), "░".repeat(cells.saturating_sub(filled)))
}

fn figures(pool: &Pool) -> Vec<Line<'static>> {
    const BAR: usize = 10;
    let (status, count) = (pool.status(), |name: &str| pool.status().count(name));
    let total = count("vexfs_space_total_bytes");
    let used = total.saturating_sub(count("vexfs_space_free_bytes"));
    let (journal, capacity) = (count("vexfs_journal_used_bytes"), count("vexfs_journal_capacity_bytes"));
    let syncs = pool.times("vexfs_sync_seconds");
    let flushes = pool.times("vexfs_flush_seconds");
    let checkpoints = status.times("vexfs_checkpoint_seconds");
    let running = if count("vexfs_checkpoint_running") > 0 {
        "running, "
    } else {
        ""
    };
    vec![
        line(
            "space",
            format!(
                "{} {} of {} ({}), {} available",
                bar(used, total, BAR),
                bytes(used),
                bytes(total),
                percent(used, total),
                bytes(count("vexfs_space_available_bytes")),
            ),
        ),
        line(
            "",
            format!(
                "{} deferred, {} promised, {} reserved",
                bytes(count("vexfs_space_deferred_bytes")),
                bytes(count("vexfs_space_promised_bytes")),
                bytes(count("vexfs_space_reserved_bytes")),
            ),
        ),
        line(
            "journal",
            format!(
                "{} {} of {} ({}), {} transactions not durable",
                bar(journal, capacity, BAR),
                bytes(journal),
                bytes(capacity),
                percent(journal, capacity),
                count("vexfs_journal_undurable_transactions"),
            ),
        ),
        line(
            "",
            format!(
                "{}/s in {} transactions/s, written in {}",
                rate(pool, "vexfs_journal_bytes_total"),
                number(pool.rate("vexfs_journal_transactions_total")),
                quantiles(&pool.times("vexfs_journal_write_seconds")),
            ),
        ),
        line(
            "flushes",
            format!(
                "{}/s {}, {} waiting",
                number(pool.rate_of(&flushes)),
                quantiles(&flushes),
                count("vexfs_flush_waiting")
            ),
        ),
        line(
            "syncs",
            format!("{}/s {}", number(pool.rate_of(&syncs)), quantiles(&syncs)),
        ),
        line(
            "checkpoints",
            format!(
                "{running}{} so far{}, {} of {} records pending",
                checkpoints.count(),
                checkpoints
                    .quantile(0.5)
                    .map(|time| format!(", p50 {}", latency(time)))
                    .unwrap_or_default(),
                count("vexfs_checkpoint_pending_records"),
                count("vexfs_checkpoint_limit_records"),
            ),
        ),
        stalls(pool),
        line(
            "recovery",
            format!(
                "{} transactions in {}, opened in {}",
                count("vexfs_recovery_transactions"),
                status
                    .time("vexfs_recovery_replay_seconds")
                    .map(latency)
                    .unwrap_or_default(),
                status.time("vexfs_recovery_seconds").map(latency).unwrap_or_default(),
            ),
        ),
        trouble(pool),
    ]
}

fn line(name: &str, value: String) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{name:<12}"), NAME), Span::raw(value)])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes per second, not negative"
)]
fn rate(pool: &Pool, name: &str) -> String {
    bytes(pool.rate(name) as u64)
}

fn quantiles(times: &Distribution) -> String {
    match (times.quantile(0.5), times.quantile(0.99)) {
        (Some(half), Some(most)) => format!(
            "p50 {}, p99 {}, max {}",
            latency(half),
            latency(most),
            latency(times.max())
        ),
        _ => "none".into(),
    }
}

fn stalls(pool: &Pool) -> Line<'static> {
    let stalls = pool.stalls();
    let now = pool.status().count("vexfs_stalled");
    let told: Vec<String> = stalls
        .iter()
        .filter(|(_, times)| times.count() > 0)
        .map(|(cause, times)| format!("{} for {cause}, {} together", times.count(), latency(times.sum())))
        .collect();
    if told.is_empty() && now == 0 {
        return line("stalls", "none".into());
    }
    let text = format!("{}; {now} waiting", told.join("; "));
    Line::from(vec![
        Span::styled(format!("{:<12}", "stalls"), NAME),
        Span::styled(text, ALARM),
    ])
}

/// What should not be, or cache hits if everything is as it should.
fn trouble(pool: &Pool) -> Line<'static> {
    let count = |name: &str| pool.status().count(name);
    let damage = count("vexfs_data_checksum_failures_total");
    let failures = count("vexfs_sync_failures_total") + count("vexfs_checkpoint_failures_total");
    let mut told = Vec::new();
    if failures > 0 || count("vexfs_pool_failed") > 0 {
        told.push("the pool failed: open it again".to_owned());
    }
    if damage > 0 {
        told.push(format!("{damage} reads met damage: check the pool"));
    }
    if told.is_empty() {
        return line("damage", "none".into());
    }
    Line::from(vec![
        Span::styled(format!("{:<12}", "damage"), NAME),
        Span::styled(told.join("; "), ALARM),
    ])
}

fn throughput(pool: &Pool, area: Rect, buffer: &mut Buffer) {
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(1);
    let [read_area, write_area] = halves.areas(area);
    for (area, name, metric, history) in [
        (read_area, "read", "vexfs_data_read_bytes_total", &pool.reads),
        (write_area, "written", "vexfs_data_written_bytes_total", &pool.writes),
    ] {
        let title = format!("{name} {}/s", rate(pool, metric));
        // The newest at the right edge.
        let newest = history.iter().rev().take(area.width.into()).copied();
        let mut data: Vec<u64> = newest.collect();
        data.resize(area.width.into(), 0);
        data.reverse();
        Sparkline::default()
            .block(Block::new().borders(Borders::TOP).title(title))
            .style(Style::new().fg(Color::Green))
            .data(data)
            .render(area, buffer);
    }
}

fn operations(operations: &[Operation], sort: Sort) -> Table<'static> {
    let headings = [
        ("OPERATION", Some(Sort::Name)),
        ("PER S", Some(Sort::Rate)),
        ("FAILED/S", None),
        ("TIME/S", Some(Sort::Time)),
        ("P50", None),
        ("P99", Some(Sort::Slowest)),
        ("MAX", None),
        ("TOTAL", None),
    ];
    let header = headings.map(|(heading, by)| {
        let style = if by == Some(sort) {
            TITLE.add_modifier(Modifier::REVERSED)
        } else {
            TITLE
        };
        Cell::new(Span::styled(heading, style))
    });
    let rows = operations.iter().map(|operation| {
        let times = &operation.times;
        let quantile = |part| times.quantile(part).map(latency).unwrap_or_default();
        // Seconds of work per second: how many did it at once.
        let busy = times
            .mean()
            .map_or(0.0, |mean| mean.as_secs_f64() * operation.per_second);
        Row::new([
            operation.name.clone(),
            number(operation.per_second),
            number(operation.failures_per_second),
            if times.count() > 0 {
                latency(Duration::from_secs_f64(busy))
            } else {
                String::new()
            },
            quantile(0.5),
            quantile(0.99),
            if times.count() > 0 {
                latency(times.max())
            } else {
                String::new()
            },
            operation.total.to_string(),
        ])
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(12),
    ];
    Table::new(rows, widths).header(Row::new(header))
}

fn foot(top: &Top) -> Paragraph<'static> {
    let keys = "q quit   p pause   s sort   ← → pool";
    top.trouble().map_or_else(
        || Paragraph::new(Line::styled(keys, Style::new().add_modifier(Modifier::DIM))),
        |trouble| Paragraph::new(Line::styled(trouble.to_owned(), ALARM)),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use tempfile::TempDir;
    use vexfs::fs::{Fs, MountOptions};
    use vexfs::metrics::Family;
    use vexfs::pool::format::{FormatOptions, format_path};
    use vexfs_control::status::{Facts, Status};

    use super::*;
    use crate::commands::top::model::Sample;

    /// A pool whose operations the tests make up.
    struct Lab {
        fs: Fs,
        family: Arc<Family>,
        begin: Instant,
        _directory: TempDir,
    }

    impl Lab {
        fn new(label: &str) -> Self {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("pool");
            let options = FormatOptions {
                size_bytes: Some(32 << 20),
                label: label.into(),
                ..FormatOptions::default()
            };
            format_path(&path, &options).unwrap();
            let fs = Fs::open(&path, &MountOptions::default()).unwrap();
            let family = Arc::new(Family::new("fuse_operation_seconds", ["read", "write", "lookup"]));
            fs.metrics().add_family(Arc::clone(&family));
            Self {
                fs,
                family,
                begin: Instant::now(),
                _directory: directory,
            }
        }

        /// Operations of some milliseconds each.
        fn did(&self, index: usize, times: u32, millis: u64) {
            (0..times).for_each(|_| self.family.record(index, Duration::from_millis(millis), false));
        }

        /// A look, so many seconds after the beginning.
        fn look(&self, seconds: u64) -> Sample {
            let facts = Facts {
                pool: "/srv/pool.img".into(),
                mount_point: Some("/mnt\u{1b}[2J".into()),
                front_end: "fuse".into(),
                options: Vec::new(),
            };
            let snapshot = self.fs.measure(Duration::from_secs(10)).unwrap();
            Sample {
                at: self.begin + Duration::from_secs(seconds),
                status: Status::new(&snapshot, facts, None),
            }
        }
    }

    fn screen(top: &Top, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| frame.render_widget(View::new(top), frame.area()))
            .unwrap();
        terminal.backend().to_string()
    }

    /// First words of the rows of the table.
    fn rows(screen: &str) -> Vec<&str> {
        let lines = screen.lines().map(|line| line.trim_matches('"'));
        let operations = lines.skip_while(|line| !line.starts_with("OPERATION")).skip(1);
        operations
            .filter_map(|line| line.split_whitespace().next())
            .take_while(|word| ["read", "write", "lookup"].contains(word))
            .collect()
    }

    #[test]
    fn a_frame_shows_what_happened_between_two_looks() {
        let lab = Lab::new("data");
        lab.did(0, 1000, 1);
        let mut top = Top::default();
        top.take(vec![lab.look(0)]);
        lab.did(0, 100, 4);
        lab.did(1, 300, 2);
        top.take(vec![lab.look(2)]);
        let screen = screen(&top, 110, 26);
        let read = screen
            .lines()
            .find(|line| line.contains("read  ") && line.contains("1100"))
            .unwrap();
        let figures: Vec<&str> = read.trim_matches('"').split_whitespace().collect();
        assert_eq!(figures[..2], ["read", "50.0"], "100 in 2 s: {screen}");
        assert!(read.contains("200 ms"), "seconds of work per second: {read}");
        assert!(screen.contains("vexfs-ublk top  data  writable"), "{screen}");
        assert!(screen.contains("/srv/pool.img"), "{screen}");
        assert!(!screen.contains('\u{1b}'), "somebody's name moves the cursor");
        assert_eq!(rows(&screen), ["write", "read"], "sorted by rate");
    }

    #[test]
    fn the_operations_are_sorted_as_asked() {
        let lab = Lab::new("data");
        lab.did(0, 10, 1);
        lab.did(1, 5, 100);
        lab.did(2, 1, 300);
        let mut top = Top::default();
        top.take(vec![lab.look(1)]);
        let mut orders = Vec::new();
        for _ in 0..4 {
            orders.push(rows(&screen(&top, 100, 26)).join(" "));
            top.sort_by_next();
        }
        assert_eq!(
            orders,
            [
                "read write lookup",
                "lookup write read",
                "write lookup read",
                "lookup read write"
            ]
        );
    }

    #[test]
    fn the_arrows_go_to_the_other_pools_and_a_pool_that_goes_is_gone() {
        let labs = ["one", "two", "three"].map(Lab::new);
        let mut top = Top::default();
        let looks = || labs.iter().map(|lab| lab.look(1)).collect::<Vec<_>>();
        top.take(looks());
        let seen = |top: &Top| {
            let screen = screen(top, 100, 24);
            ["one", "two", "three"]
                .into_iter()
                .find(|name| screen.contains(&format!("top  {name}  ")))
        };
        assert_eq!(seen(&top), Some("one"));
        top.previous_pool();
        assert_eq!(seen(&top), Some("three"));
        assert!(screen(&top, 100, 24).contains("pool 3 of 3"));
        top.next_pool();
        top.next_pool();
        assert_eq!(seen(&top), Some("two"));
        // The one that is looked at stays looked at, whatever its place.
        top.take(looks().split_off(1));
        assert_eq!((seen(&top), top.index()), (Some("two"), 0));
        top.take(Vec::new());
        assert!(screen(&top, 100, 24).contains("no pool is served"));
        top.next_pool();
    }

    #[test]
    fn nothing_changes_while_it_is_paused() {
        let lab = Lab::new("data");
        let mut top = Top::default();
        top.take(vec![lab.look(1)]);
        top.pause();
        let before = screen(&top, 100, 24);
        assert!(before.contains("paused"));
        lab.did(0, 10, 1);
        top.take(vec![lab.look(2)]);
        assert_eq!(screen(&top, 100, 24), before);
        top.pause();
        top.take(vec![lab.look(3)]);
        assert_eq!(rows(&screen(&top, 100, 24)), ["read"]);
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        let lab = Lab::new("data");
        lab.did(0, 1, 1);
        let mut top = Top::default();
        top.take(vec![lab.look(1)]);
        for width in [1, 5, 20, 79, 300] {
            for height in [1, 3, 10, 24, 100] {
                screen(&top, width, height);
            }
        }
        let small = screen(&top, 80, 12);
        assert!(small.contains("space"), "{small}");
    }

    #[test]
    fn trouble_is_seen() {
        let lab = Lab::new("data");
        let mut top = Top::default();
        let mut look = lab.look(1);
        let number = vexfs_control::status::Number::Count;
        look.status
            .metrics
            .insert("vexfs_data_checksum_failures_total".into(), number(3));
        look.status.metrics.insert("vexfs_pool_failed".into(), number(1));
        top.take(vec![look]);
        top.complain("the server did not answer in time".into());
        let screen = screen(&top, 120, 24);
        for text in ["3 reads met damage", "the pool failed", "did not answer in time"] {
            assert!(screen.contains(text), "{text}: {screen}");
        }
    }
}
