// SPDX-License-Identifier: MIT OR Apache-2.0

//! A live view of served pools.
//!
//! | module | job |
//! |---|---|
//! | [`model`] | what two statuses say about the time between them; which pool is looked at, and how |
//! | [`view`] | a frame of it |
//!
//! A thread asks the servers, so that keys work while one of them does not answer.

mod model;
mod view;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use self::model::{Sample, Top};
use self::view::View;
use crate::failure::failed;
use crate::served;

/// Watch served pools live.
///
/// Keys: q quits, p pauses, s sorts by another column, the arrows go to another pool.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk top /mnt
  vexfs-ublk top --interval 0.5 /mnt
  vexfs-ublk top --once")]
pub(crate) struct Arguments {
    /// One pool: its file or device, mount point, UUID, label, or the socket of its server
    #[arg(value_name = "POOL|DIR|SOCKET")]
    which: Option<OsString>,
    /// Seconds between two looks
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one frame as text, and end
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, as 0.5".to_owned())?;
    if (0.05..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("between 0.05 and 3600 seconds".into())
    }
}

/// Width of what `--once` prints where there is no terminal.
const ONCE_WIDTH: u16 = 100;

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    if json {
        return Err(failed(
            "top is for people",
            "status --json has the numbers for programs",
        ));
    }
    if arguments.once {
        return once(arguments);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(failed("top needs a terminal", "use --once to print one frame"));
    }
    let mut top = Top::default();
    see(&mut top, look(arguments)?);
    // Also hooks panics, so that whatever ends this leaves the terminal as it was.
    let terminal = ratatui::try_init();
    let ended = terminal
        .context("taking the terminal")
        .and_then(|terminal| watch(arguments, top, terminal));
    ratatui::restore();
    ended
}

/// One frame, of the time between two looks.
fn once(arguments: &Arguments) -> Result<()> {
    let mut top = Top::default();
    see(&mut top, look(arguments)?);
    std::thread::sleep(arguments.interval);
    see(&mut top, look(arguments)?);
    let width = ratatui::crossterm::terminal::size().map_or(ONCE_WIDTH, |(columns, _)| columns.clamp(60, 200));
    for pool in 0..top.pools().len().max(1) {
        top.select(pool);
        let view = View::new(&top);
        let area = Rect::new(0, 0, width, view.height());
        let mut buffer = Buffer::empty(area);
        view.render(area, &mut buffer);
        print!("{}", text(&buffer));
    }
    Ok(())
}

/// What a frame shows, without its colours.
fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| {
        let cells = (area.left()..area.right()).filter_map(|x| buffer.cell((x, y)));
        let line: String = cells.map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    };
    (area.top()..area.bottom()).map(line).collect()
}

/// What the servers say now, and what is wrong with those that say nothing.
struct Look {
    samples: Vec<Sample>,
    silent: Option<String>,
}

fn look(arguments: &Arguments) -> Result<Look> {
    let (served, silent) = match &arguments.which {
        Some(which) => (vec![served::find(which)?], Vec::new()),
        None => served::all()?,
    };
    let at = Instant::now();
    let samples = served.into_iter().map(|served| Sample {
        at,
        status: served.status,
    });
    Ok(Look {
        samples: samples.collect(),
        silent: (!silent.is_empty()).then(|| served::join(&silent)),
    })
}

fn see(top: &mut Top, look: Look) {
    top.take(look.samples);
    if let Some(silent) = look.silent {
        top.complain(silent);
    }
}

fn watch(arguments: &Arguments, mut top: Top, mut terminal: DefaultTerminal) -> Result<()> {
    std::thread::scope(|scope| {
        let (looks, news) = channel();
        // Dropped with this closure: then the thread ends.
        let (alive, ended) = channel::<()>();
        scope.spawn(move || keep_looking(arguments, &looks, &ended));
        let watched = interact(&mut top, &mut terminal, &news);
        drop(alive);
        watched
    })
}

fn keep_looking(arguments: &Arguments, looks: &Sender<Result<Look>>, ended: &Receiver<()>) {
    // Nobody sends anything there: the wait ends early when the other end is gone.
    while ended.recv_timeout(arguments.interval) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        if looks.send(look(arguments)).is_err() {
            return;
        }
    }
}

/// How long a key or a look may wait to be seen.
const TICK: Duration = Duration::from_millis(50);

fn interact(top: &mut Top, terminal: &mut DefaultTerminal, news: &Receiver<Result<Look>>) -> Result<()> {
    let mut changed = true;
    loop {
        for look in news.try_iter() {
            match look {
                Ok(look) => see(top, look),
                Err(error) => top.complain(format!("{error:#}")),
            }
            changed = true;
        }
        if changed {
            terminal
                .draw(|frame| frame.render_widget(View::new(top), frame.area()))
                .context("drawing")?;
            changed = false;
        }
        if !event::poll(TICK).context("waiting for keys")? {
            continue;
        }
        changed = true;
        match event::read().context("reading keys")? {
            Event::Key(key) if key.kind != KeyEventKind::Release && !press(top, key) => return Ok(()),
            _ => {}
        }
    }
}

/// What a key does; false: it ends the view.
fn press(top: &mut Top, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p') => top.pause(),
        KeyCode::Char('s') => top.sort_by_next(),
        KeyCode::Right | KeyCode::Down | KeyCode::Tab => top.next_pool(),
        KeyCode::Left | KeyCode::Up | KeyCode::BackTab => top.previous_pool(),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_help_says() {
        let mut top = Top::default();
        let press = |top: &mut Top, code| super::press(top, KeyEvent::new(code, KeyModifiers::NONE));
        assert!(press(&mut top, KeyCode::Char('p')));
        assert!(top.is_paused());
        let before = top.sort();
        assert!(press(&mut top, KeyCode::Char('s')));
        assert_ne!(top.sort(), before);
        assert!(!press(&mut top, KeyCode::Char('q')));
        assert!(!super::press(
            &mut top,
            KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)
        ));
        assert!(press(&mut top, KeyCode::Char('c')));
    }
}
