//! The screen, drawn from the model alone.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{
    Block, Cell, Clear, Paragraph, Row, Sparkline, SparklineBar, Table, TableState, Wrap,
};

use super::columns::{Column, DEVICE, QUEUE, Value, binary, count};
use super::model::Model;
use super::rates::{DeviceRow, Rates};

const MINUTE: &str = "LAST 60s";
const NOTE: &str = "P50, P99: since the worker started; a device's are its slowest queue's";
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A name gets no more columns than this, however many there are.
const NAME_WIDTH_MAX: u16 = 64;
/// Lines of the selected device's chart.
const CHART_HEIGHT: u16 = 4;

const HELP: [&str; 17] = [
    "Up, Down, k, j   select a device        Home, End   the first, the last",
    "Enter            its queues             PgUp, PgDn  scroll its queues",
    "s, S             sort by the next column, by the one before",
    "p, Space         pause                  q, Ctrl-C   quit",
    "",
    "IOPS         requests completed a second",
    "READ, WRITE  bytes a second, in units of 1024",
    "P50, P99     latency inside of the device since the last sample; - when",
    "             there were no requests",
    "BUSY         passes of the workers that found work, of all passes since the",
    "             last sample; - when all slept",
    "IRQ/REQ      interrupts a request",
    "ERR, SLEEP   requests that failed and times that the worker slept, a second",
    "",
    "A device whose daemon is gone stays for a minute. The number of requests in",
    "flight is not shown: daemons do not tell it.",
    "Any key goes back.",
];

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let problems = problems(model);
    let area = frame.area();
    let selected = model.selected().map(|at| &model.rows[at]);
    let detail = selected.filter(|_| model.is_open);
    let wanted = detail.map_or(0, |row| height(row.queues.len()) + CHART_HEIGHT + 2);
    let [top, told, devices, queues, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(height(problems.len().min(2))),
        Constraint::Min(3),
        Constraint::Length(wanted.min(area.height * 3 / 5)),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_header(frame, model, top);
    let style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(Text::from_iter(problems)).style(style), told);
    draw_devices(frame, model, devices);
    if let Some(row) = detail {
        draw_detail(frame, model, row, queues);
    }
    let sort = DEVICE[model.sort].title;
    let line = format!(
        "q quit  Up/Down select  Enter queues  s sort (by {sort})  p {}  ? help",
        if model.is_paused { "go on" } else { "pause" }
    );
    frame.render_widget(Line::from(line).style(Modifier::REVERSED), keys);
    if model.is_help {
        draw_help(frame);
    }
}

fn height(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX / 2)
}

fn problems(model: &Model) -> Vec<String> {
    let broken = model.rows.iter().filter_map(|row| {
        let problem = row.problem.as_ref()?;
        Some(format!("{}: {problem}", row.name))
    });
    model.problems.iter().cloned().chain(broken).collect()
}

fn draw_header(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let sum = |of: fn(Rates) -> f64| {
        let rates = model.rows.iter().filter_map(|row| row.rates);
        // An empty sum() of floats is -0.
        rates.map(of).fold(0.0, |sum, rate| sum + rate)
    };
    let devices = model.rows.iter().filter(|row| !row.is_gone()).count();
    let line = format!(
        "pollux top  {devices} device{}  {} IOPS  read {}/s  write {}/s",
        if devices == 1 { "" } else { "s" },
        count(sum(|it| it.iops)),
        binary(sum(|it| it.read_bytes_per_second)),
        binary(sum(|it| it.written_bytes_per_second)),
    );
    let right = match model.is_paused {
        true => "paused".to_owned(),
        false => format!("every {} s", model.delay.as_secs_f64()),
    };
    let [first, second] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    frame.render_widget(Line::from(line).style(Modifier::BOLD), first);
    frame.render_widget(Line::from(right).alignment(Alignment::Right), first);
    frame.render_widget(Line::from(NOTE).style(Modifier::DIM), second);
}

fn draw_devices(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if model.rows.is_empty() {
        let text = match model.now_s {
            None => format!("asking the daemons in {}", model.runtime_dir),
            Some(_) => format!(
                "no device is served by a daemon in {}: start one with pollux serve, or name another --runtime-dir",
                model.runtime_dir
            ),
        };
        return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
    }
    let fixed: u16 = DEVICE[1..].iter().map(|column| column.width + 1).sum();
    let minute = MINUTE.len() as u16 + 1;
    let longest = model.rows.iter().map(|row| row.name.chars().count()).max();
    let room = area.width.saturating_sub(fixed + minute);
    let wanted = height(longest.unwrap_or(0)).min(NAME_WIDTH_MAX).min(room);
    let name = wanted.max(DEVICE[0].width);
    let rest = area.width.saturating_sub(fixed + name + 1);
    let widths = [name]
        .into_iter()
        .chain(DEVICE[1..].iter().map(|column| column.width))
        .chain([rest]);
    let titles = titles(&DEVICE, Some(model.sort)).chain([Cell::new(MINUTE)]);
    let rows = model.rows.iter().map(|row| {
        let values = DEVICE.iter().map(|column| (column.value)(row));
        let mut cells: Vec<_> = values.map(cell).collect();
        cells[0] = Cell::new(shortened(&row.name, name.into()));
        cells.push(Cell::new(bars(&model.minute(&row.name, rest.into()))));
        Row::new(cells).style(style(row))
    });
    let table = Table::new(rows, widths)
        .header(Row::new(titles))
        .row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::new().with_selected(model.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_detail(frame: &mut Frame<'_>, model: &Model, row: &DeviceRow, area: Rect) {
    let block = Block::bordered()
        .borders(ratatui::widgets::Borders::TOP)
        .title(format!("─ {}: {} ", row.name, row.backend));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [chart, queues] =
        Layout::vertical([Constraint::Length(CHART_HEIGHT), Constraint::Min(0)]).areas(inner);
    draw_chart(frame, &model.minute(&row.name, chart.width.into()), chart);
    let rows = row.queues.iter().skip(model.queue).map(|queue| {
        let values = QUEUE.iter().map(|column| (column.value)(queue));
        let style = if queue.fault.is_some() {
            Style::new().fg(Color::Red)
        } else {
            Style::new()
        };
        Row::new(values.map(cell)).style(style)
    });
    let widths = QUEUE.iter().map(|column| column.width);
    let table = Table::new(rows, widths).header(Row::new(titles(&QUEUE, None)));
    frame.render_widget(table, queues);
}

fn draw_chart(frame: &mut Frame<'_>, minute: &[Option<u64>], area: Rect) {
    let most = minute.iter().flatten().max().copied().unwrap_or(0);
    let text = format!("IOPS of the last minute, at most {}", count(most as f64));
    let [title, chart] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Line::from(text).style(Modifier::DIM), title);
    let bars = minute.iter().map(|value| SparklineBar::from(*value));
    let sparkline = Sparkline::default()
        .data(bars)
        .style(Style::new().fg(Color::Cyan));
    frame.render_widget(sparkline, chart);
}

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let width = area.width.min(80);
    let lines = height(HELP.len() + 2).min(area.height);
    let area = area.centered(Constraint::Length(width), Constraint::Length(lines));
    let block = Block::bordered().title(" pollux top ");
    let text = Text::from_iter(HELP);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(block), area);
}

/// Returns the titles of `columns`, that of the one that sorts marked.
fn titles<R>(columns: &[Column<R>], sort: Option<usize>) -> impl Iterator<Item = Cell<'static>> {
    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
    titles.into_iter().enumerate().map(move |(at, title)| {
        let is_word = matches!(title, "NAME" | "STATE");
        let style = match sort == Some(at) {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            false => Style::new().add_modifier(Modifier::BOLD),
        };
        Cell::new(Line::from(title).alignment(side(!is_word)).style(style))
    })
}

fn side(is_number: bool) -> Alignment {
    match is_number {
        true => Alignment::Right,
        false => Alignment::Left,
    }
}

fn cell(value: Value) -> Cell<'static> {
    Cell::new(Line::from(value.to_string()).alignment(side(value.is_number())))
}

fn style(row: &DeviceRow) -> Style {
    match row.state.as_str() {
        _ if row.is_gone() => Style::new().fg(Color::Yellow),
        "broken" | "refused" => Style::new().fg(Color::Red),
        _ => Style::new(),
    }
}

/// Returns `name` in at most `width` columns, with a mark where something is missing.
fn shortened(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    let kept = name.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// Returns a bar for each value, as high as it is beside the highest.
fn bars(values: &[Option<u64>]) -> String {
    let most = values.iter().flatten().max().copied().unwrap_or(0).max(1);
    let bar = |value: u64| match value {
        0 => '▁',
        _ => BARS[(value as u128 * 7).div_ceil(u128::from(most)) as usize],
    };
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests;
