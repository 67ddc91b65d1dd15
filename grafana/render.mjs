#!/usr/bin/env node
// Draws the dashboards without a Grafana server.
//
//     node grafana/render.mjs SOURCE [--folder FOLDER] [--until UNIX-TIME] [--pages] [--open]
//
// SOURCE: the URL of a Prometheus that scrapes the exporter, or the built program xt-balance-exporter for a demo day
// (grafana/demo.py, and grafana/fleet_demo.py for the fleet). FOLDER (default target/grafana/pictures) gets a page and a picture of each dashboard, dark and light, for
// desktop and phone; with --pages, only the pages. With --open, the rows of details are open. The time range ends now, or at UNIX-TIME.
//
// The queries are those of the JSON, sent as Grafana sends them. Grafana's own code (@grafana/data) makes the texts and
// colours: transformations, overrides, mappings, thresholds, units, texts of missing values. The code here draws lines, bands
// and cells on d3's scales; the result only resembles Grafana's.
//
// Needs what tests/install installs: the packages in the folder grafana of cargo's target folder (`target`, or
// CARGO_TARGET_DIR), Chromium, and Prometheus for a demo day.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';
import { parseArgs } from 'node:util';

const HERE = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const ROOT = path.dirname(HERE);
const TARGET = path.resolve(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'grafana');
// Grafana's code asks the browser for the language of dates.
Object.defineProperty(globalThis, 'navigator', { value: { languages: ['en-US'], language: 'en-US' }, configurable: true });
const require = createRequire(path.join(TARGET, 'node_modules/x.js'));
const grafana = require('@grafana/data');
// It also looks at the window for scenes, but a window must not exist while it loads.
globalThis.window = {};
const { lastValueFrom } = require('rxjs');
const { scaleLinear, scaleSymlog, scaleUtc } = await import(require.resolve('d3-scale'));
const { area, curveStepAfter, line } = await import(require.resolve('d3-shape'));
const { interpolateBlues } = await import(require.resolve('d3-scale-chromatic'));

// Grafana's grid has 24 columns; a row is 30 pixels high, with a gap of 8.
const ROW = 30, GAP = 8, TOP = 80;
// Seconds between new values.
let scrapeSeconds = 30;
const SCREENS = { desktop: 1440, phone: 390 };

// ---- Queries to Prometheus

async function fetchData(prometheus, endpoint, parameters) {
  const answer = await fetch(`${prometheus}/api/v1/${endpoint}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const { status, data, error } = await answer.json();
  if (status !== 'success') throw new Error(`Prometheus rejected ${JSON.stringify(parameters)}: ${error}`);
  return data;
}

/** The query with values for its variables, by default `All`, and with the interval that Grafana would choose. */
function interpolate(expression, step, variables = {}, range = 0) {
  // Grafana takes the step plus one scrape interval, but at least four scrape intervals.
  const rate = Math.max(step + scrapeSeconds, 4 * scrapeSeconds);
  return expression
    .replaceAll('$__rate_interval', `${rate}s`)
    .replaceAll('$__range', `${range}s`)
    .replaceAll('$__interval', `${step}s`)
    .replace(/\$([a-z]\w*)/g, (_, name) => variables[name] ?? '.+');
}

/** The results of a panel's queries, as the data frames of Grafana's Prometheus data source. */
async function queryFrames(panel, context) {
  const { prometheus, from, to, variables } = context;
  const step = Math.max(30, Math.ceil((to - from) / (panel.maxDataPoints ?? 720) / 15) * 15);
  const series = [];
  for (const target of panel.targets) {
    const query = interpolate(target.expr, step, variables, to - from);
    if (target.instant) {
      const { result } = await fetchData(prometheus, 'query', { query, time: to });
      if (target.format === 'table') series.push(tableFrame(target.refId, result, panel.targets.length > 1));
      else for (const { metric, value } of result) series.push(frame(target, metric, [value]));
    } else {
      const { result } = await fetchData(prometheus, 'query_range', { query, start: from, end: to, step });
      for (const { metric, values } of result) series.push(frame(target, metric, withGaps(values, step)));
    }
  }
  return { series, step };
}

/** The values, with null where a value is missing between two others. */
function withGaps(values, step) {
  return values.flatMap((value, place) => {
    const next = values[place + 1];
    return next && next[0] - value[0] > step * 1.5 ? [value, [value[0] + step, null]] : [value];
  });
}

const number = (text) => (text === null ? null : Number(text));

function frame(target, metric, values) {
  const name = target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '');
  const config = name ? { displayNameFromDS: name } : {};
  return {
    refId: target.refId,
    length: values.length,
    fields: [
      { name: 'Time', type: 'time', config: {}, values: values.map(([at]) => at * 1000) },
      { name: 'Value', type: 'number', config, labels: metric, values: values.map(([, value]) => number(value)) },
    ],
  };
}

function tableFrame(refId, result, hasMoreQueries) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const field = (name, type, values) => ({ name, type, config: {}, values });
  return {
    refId,
    length: result.length,
    fields: [
      field('Time', 'time', result.map(({ value }) => value[0] * 1000)),
      ...labels.map((label) => field(label, 'string', result.map(({ metric }) => metric[label] ?? ''))),
      field(hasMoreQueries ? `Value #${refId}` : 'Value', 'number', result.map(({ value }) => number(value[1]))),
    ],
  };
}

// ---- Texts and colours, by Grafana's code

const { standardTransformers } = grafana;
grafana.standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
  })),
);

// Field properties that panels configure. Grafana's own list is part of its user interface.
const PROPERTIES = ['unit', 'decimals', 'noValue', 'mappings', 'thresholds', 'color', 'min', 'max', 'links'];
const CUSTOM = ['align', 'lineStyle', 'lineWidth', 'hideFrom', 'cellOptions', 'drawStyle', 'fillOpacity', 'stacking', 'thresholdsStyle', 'axisSoftMin', 'axisSoftMax', 'scaleDistribution'];
const property = (id, isCustom) => ({
  id: isCustom ? `custom.${id}` : id,
  path: id,
  name: id,
  isCustom,
  process: (value) => value,
  shouldApply: () => true,
});
const fieldConfigRegistry = new grafana.Registry(() => [
  ...PROPERTIES.map((id) => property(id, false)),
  ...CUSTOM.map((id) => property(id, true)),
]);

/** Series whose fields have texts, colours and names, and an empty field for panels without data. */
async function applyFieldConfig(panel, data, theme) {
  const fieldConfig = structuredClone(panel.fieldConfig);
  const setLowestStep = (thresholds) => thresholds?.steps.forEach((step) => (step.value ??= -Infinity));
  setLowestStep(fieldConfig.defaults.thresholds);
  fieldConfig.overrides.forEach(({ properties }) => properties.forEach(({ id, value }) => id === 'thresholds' && setLowestStep(value)));
  const transformed = panel.transformations ? await lastValueFrom(grafana.transformDataFrame(panel.transformations, data)) : data;
  const apply = (series) =>
    grafana.applyFieldOverrides({ data: series, fieldConfig, fieldConfigRegistry, theme, timeZone: 'utc', replaceVariables: (text) => text });
  const series = apply(transformed);
  const [noData] = apply([{ length: 0, fields: [{ name: 'Value', type: 'number', config: {}, values: [] }] }]);
  for (const each of series) {
    for (const field of each.fields) field.label = grafana.getFieldDisplayName(field, each, series);
  }
  return { series, emptyField: noData.fields[0] };
}

const formatted = (display) => grafana.formattedValueToString(display);

// ---- Drawing

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

function drawStat(panel, { series, emptyField }) {
  const hasName = panel.options.textMode === 'value_and_name';
  const fields = series.map(({ fields }) => fields.find(({ type }) => type === 'number'));
  const values = (fields.length ? fields : [emptyField]).map((field) => {
    const display = field.display(field.values.at(-1) ?? null);
    const name = hasName && fields.length ? `<small>${escape(field.label)}</small>` : '';
    return `<div style="color:${display.color}">${name}${escape(formatted(display))}</div>`;
  });
  return `<div class="big">${values.join('')}</div>`;
}

const emptyPanel = (panel) => `<div class="empty">${escape(panel.fieldConfig.defaults.noValue)}</div>`;

function drawTable(panel, { series }) {
  const [data] = series;
  if (!data?.length) return emptyPanel(panel);
  const rows = [...Array(data.length).keys()];
  const { displayName, desc } = panel.options.sortBy[0];
  const by = data.fields.find((field) => field.label === displayName);
  const sortKey = (value) => (value === null || value === undefined || Number.isNaN(value) ? -Infinity : value);
  const order = (a, b) => {
    const [x, y] = [sortKey(by.values[a]), sortKey(by.values[b])];
    return x === y ? 0 : x < y ? -1 : 1;
  };
  if (by) rows.sort((a, b) => (desc ? order(b, a) : order(a, b)));
  const align = (field) => (field.config.custom?.align === 'left' ? 'string' : field.type);
  const cell = (field, row) => {
    const display = field.display(field.values[row] ?? null);
    const text = escape(field.type === 'number' ? formatted(display) : field.values[row]);
    const kind = field.config.custom?.cellOptions?.type;
    const known = typeof field.values[row] === 'number';
    const color = (kind === 'color-text' || kind === 'gauge' || !known) && field.type === 'number' ? ` style="color:${display.color}"` : '';
    const share = Math.min(1, Math.max(0, (field.values[row] ?? 0) / field.config.max));
    const bar = kind === 'gauge' && known ? `<i style="width:${share * 60}%;background:${display.color}"></i>` : '';
    return `<td class="${align(field)}"${color}>${bar}${text}</td>`;
  };
  const head = data.fields.map((field) => `<th class="${align(field)}">${escape(field.label)}</th>`).join('');
  const body = rows.map((row) => `<tr>${data.fields.map((field) => cell(field, row)).join('')}</tr>`).join('');
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

/** The plot area of a panel with its axes, and the scales of both. */
function axes(width, height, { from, to }, y, yTicks, left, theme) {
  const x = scaleUtc([from * 1000, to * 1000], [left, width - 6]);
  const clock = (time) => time.toISOString().slice(11, 16);
  const grid = theme.isDark ? 'rgba(240,250,255,0.09)' : 'rgba(0,10,23,0.09)';
  const times = x.ticks(Math.max(2, Math.floor(width / 110)))
    .map((time) => `<line x1="${x(time)}" x2="${x(time)}" y1="4" y2="${height - 18}" stroke="${grid}"/>` +
      `<text x="${x(time)}" y="${height - 4}" text-anchor="middle">${clock(time)}</text>`);
  const values = yTicks
    .map(([at, text]) => `<line x1="${left}" x2="${width - 6}" y1="${at}" y2="${at}" stroke="${grid}"/>` +
      `<text x="${left - 6}" y="${at + 4}" text-anchor="end">${escape(text)}</text>`);
  return { x, y, lines: [...times, ...values].join('') };
}

function drawLines(panel, { series, emptyField }, context, width, height) {
  const { theme } = context;
  const each = series.map((data) => ({ ...data, value: data.fields[1], color: lineColor(data.fields[1], theme) }));
  if (!each.length) return emptyPanel(panel);
  const listed = each.filter(({ value }) => !value.config.custom.hideFrom?.legend);
  const names = listed.map(({ value, color }) => `<li><b style="background:${color}"></b>${escape(value.label)}</li>`).join('');
  const legend = `<ul class="legend below">${names}</ul>`;
  const plotWidth = width, plotHeight = height - 26 - 15 * Math.floor((listed.length * 190) / width);

  const { config } = each[0].value;
  const stacked = config.custom.stacking?.mode === 'normal';
  const sums = new Map();
  const points = each.map(({ fields: [time, value] }) =>
    time.values.map((at, place) => {
      const base = stacked ? (sums.get(at) ?? 0) : 0;
      const v = value.values[place];
      if (stacked) sums.set(at, base + (v ?? 0));
      return { at, base, v: v === null || Number.isNaN(v) ? null : base + v };
    }));
  const all = points.flat().map(({ v }) => v).filter((v) => v !== null);
  const limits = config.custom.thresholdsStyle?.mode !== 'off' ? config.thresholds.steps.filter(({ value }) => Number.isFinite(value)) : [];
  const isLogarithmic = config.custom.scaleDistribution?.type === 'symlog';
  const least = config.min ?? Math.min(...all, config.custom.axisSoftMin ?? Infinity);
  const most = config.max ?? Math.max(...all, config.custom.axisSoftMax ?? -Infinity);
  // A logarithmic axis ends at powers of ten; below its linear threshold it has only 0.
  const smallest = config.custom.scaleDistribution?.linearThreshold;
  const power = (value, round) => (value < smallest ? 0 : 10 ** round(Math.log10(value)));
  const [low, high] = isLogarithmic ? [power(least, Math.floor), power(most, Math.ceil)] : [least, most];
  const scale = isLogarithmic ? scaleSymlog().constant(smallest) : scaleLinear();
  const y = scale.domain([low, high === low ? low + 1 : high]).range([plotHeight - 18, 8]);
  if (!isLogarithmic) y.nice(4).domain([config.min ?? y.domain()[0], config.max ?? y.domain()[1]]);
  const powers = [0, ...[...Array(16).keys()].map((place) => 10 ** (place - 6))].filter((tick) => tick === 0 || tick >= smallest);
  const candidates = isLogarithmic ? powers.filter((tick) => low <= tick && tick <= high) : y.ticks(Math.max(2, Math.floor(plotHeight / 45)));
  const ticks = config.decimals === 0 ? candidates.filter(Number.isInteger) : candidates;
  const yTicks = ticks.map((tick) => [y(tick), formatted(emptyField.display(tick))]);
  const left = 10 + 6.4 * Math.max(...yTicks.map(([, text]) => text.length));
  const { x, lines } = axes(plotWidth, plotHeight, context, y, yTicks, left, theme);

  const inside = (value) => Math.min(plotHeight - 18, Math.max(8, y(value)));
  const areas = !config.custom.thresholdsStyle.mode.includes('area') ? '' : config.thresholds.steps.map(({ value, color }, place) => {
    const next = config.thresholds.steps[place + 1]?.value ?? Infinity;
    const [bottom, top] = [inside(Math.max(value, y.domain()[0])), inside(Math.min(next, y.domain()[1]))];
    return color === 'transparent' || bottom <= top ? '' :
      `<rect x="${left}" width="${plotWidth - 6 - left}" y="${top}" height="${bottom - top}" fill="${theme.visualization.getColorByName(color)}" opacity="0.12"/>`;
  }).join('');
  // The line of a threshold has the colour of the step that starts or ends there.
  const marks = limits.map(({ value, color }, place) => {
    const before = config.thresholds.steps[config.thresholds.steps.findIndex((step) => step.value === value) - 1];
    const own = theme.visualization.getColorByName(color === 'transparent' ? (before?.color ?? 'red') : color);
    return value < y.domain()[0] || value > y.domain()[1] ? '' :
      `<line x1="${left}" x2="${plotWidth - 6}" y1="${y(value)}" y2="${y(value)}" stroke="${own}" stroke-dasharray="8 6"/>`;
  }).join('');
  const isBars = config.custom.drawStyle === 'bars';
  const isArea = stacked && !isBars;
  const surface = area().defined(({ v }) => v !== null).x(({ at }) => x(at)).y0(({ base }) => y(base)).y1(({ v }) => y(v)).curve(curveStepAfter);
  const path = line().defined(({ v }) => v !== null).x(({ at }) => x(at)).y(({ v }) => inside(v)).curve(curveStepAfter);
  const drawn = each.map(({ value, color }, place) => {
    const custom = value.config.custom;
    if (isBars) {
      const wide = Math.max(1.5, x(context.step * 1000) - x(0));
      return points[place].filter(({ v, base }) => v > base).map(({ at, v, base }) =>
        `<rect x="${x(at) - wide}" width="${wide}" y="${y(v)}" height="${y(base) - y(v)}" fill="${color}"/>`).join('');
    }
    if (isArea) return `<path d="${surface(points[place]) ?? ''}" fill="${color}" opacity="${custom.fillOpacity / 100}"/>`;
    const dash = custom.lineStyle?.dash ? ` stroke-dasharray="${custom.lineStyle.dash.join(' ')}"` : '';
    return `<path d="${path(points[place]) ?? ''}" fill="none" stroke="${color}" stroke-width="${custom.lineWidth}"${dash}/>`;
  }).join('');
  const svg = `<svg width="${plotWidth}" height="${plotHeight}">${areas}${lines}${drawn}${marks}</svg>`;
  return svg + legend;
}

const lineColor = (field, theme) => grafana.getFieldColorModeForField(field).getCalculator(field, theme)(0, 0);

function drawBands(panel, { series }, context, width, height) {
  if (!series.length) return emptyPanel(panel);
  const left = 20 + 6.4 * Math.max(...series.map(({ fields: [, value] }) => value.label.length)), plot = height - 26;
  const y = (place) => 4 + (place * (plot - 22)) / series.length;
  const { x, lines } = axes(width, plot, context, null, [], left, context.theme);
  const bands = series.map(({ fields: [time, value] }, place) => {
    const high = ((plot - 22) / series.length) * 0.8;
    const parts = time.values.map((at, point) => {
      const display = value.display(value.values[point]);
      const next = Math.min(time.values[point + 1] ?? at + context.step * 1000, context.to * 1000);
      return value.values[point] === null ? '' : `<rect x="${x(at)}" width="${x(next) - x(at) + 0.5}" y="${y(place)}" height="${high}" fill="${display.color}" opacity="0.75"/>`;
    });
    return `<text x="${left - 8}" y="${y(place) + high / 2 + 4}" text-anchor="end">${escape(value.label)}</text>${parts.join('')}`;
  });
  const mappings = series[0]?.fields[1].config.mappings ?? [];
  const names = mappings.flatMap(({ type, options }) => (type === 'value' ? Object.values(options) : [options.result]))
    .map(({ text, color }) => `<li><b style="background:${context.theme.visualization.getColorByName(color)}"></b>${escape(text)}</li>`).join('');
  return `<svg width="${width}" height="${plot}">${lines}${bands.join('')}</svg><ul class="legend below">${names}</ul>`;
}

function drawHeatmap({ series }, context, width, height) {
  const bound = ({ fields }) => Number(fields[1].labels.le.replace('+Inf', 'Infinity'));
  const buckets = [...series].sort((a, b) => bound(a) - bound(b));
  const counts = buckets.map(({ fields: [, value] }, place) =>
    value.values.map((count, point) => Math.max(0, count - (place ? buckets[place - 1].fields[1].values[point] : 0))));
  const most = Math.max(...counts.flat());
  const left = 56, high = (height - 22) / buckets.length;
  const y = (place) => height - 18 - (place + 1) * high;
  const seconds = grafana.getValueFormat('s');
  const ticks = buckets.map((bucket, place) => [y(place), Number.isFinite(bound(bucket)) ? formatted(seconds(bound(bucket))) : '+Inf']);
  const shown = ticks.filter((_, place) => high > 13 || place % 2 === 0);
  const { x, lines } = axes(width, height, context, null, shown, left, context.theme);
  const wide = x(context.step * 1000) - x(0);
  const cells = counts.flatMap((row, place) =>
    row.map((count, point) => count < 1e-9 ? '' :
      `<rect x="${x(buckets[place].fields[0].values[point]) - wide}" width="${Math.max(1, wide - 0.3)}" y="${y(place)}" height="${high - 1}" fill="${interpolateBlues(context.theme.isDark ? 1 - 0.8 * Math.sqrt(count / most) : 0.2 + 0.8 * Math.sqrt(count / most))}"/>`));
  return `<svg width="${width}" height="${height}">${lines}${cells.join('')}</svg>`;
}

async function drawPanel(panel, context, width, height) {
  if (panel.type === 'row') {
    const closed = panel.collapsed ? `› ` : '';
    const count = panel.collapsed ? ` <small>(${panel.panels.length} panels)</small>` : '';
    return `<h2>${closed}${escape(panel.title)}${count}</h2>`;
  }
  const { series, step } = await queryFrames(panel, context);
  const data = await applyFieldConfig(panel, series, context.theme);
  const inner = { ...context, step };
  const title = panel.title.replace(/\$(\w+)/g, (_, name) => context.variables?.[name] ?? '');
  const [w, h] = [width - 18, height - 42];
  const drawn = {
    stat: () => drawStat(panel, data),
    table: () => drawTable(panel, data),
    timeseries: () => drawLines(panel, data, inner, w, h),
    'state-timeline': () => drawBands(panel, data, inner, w, h),
    heatmap: () => drawHeatmap(data, inner, w, h),
  }[panel.type]();
  return `<h3 title="${escape(panel.description)}">${escape(title)}</h3>${drawn}`;
}

/** The panels, with those of closed rows if `--open` is given. Each row that was closed pushes down what follows. */
function openRows(panels) {
  if (!options.open) return panels;
  let pushed = 0;
  return panels.flatMap((panel) => {
    const moved = ({ gridPos, ...rest }) => ({ ...rest, gridPos: { ...gridPos, y: gridPos.y + pushed } });
    if (!panel.collapsed) return [moved(panel)];
    const opened = [moved({ ...panel, collapsed: false }), ...panel.panels.map(moved)];
    pushed += Math.max(...panel.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) - panel.gridPos.y - 1;
    return opened;
  });
}

/** The panels, with a copy of a repeated panel for each value of its variable. */
async function expandRepeats(dashboard, context) {
  const panels = [];
  let rowsAdded = 0, repeatedAt = Infinity;
  for (const panel of openRows(dashboard.panels)) {
    const shift = panel.gridPos.y > repeatedAt ? rowsAdded : 0;
    if (!panel.repeat) {
      panels.push({ ...panel, gridPos: { ...panel.gridPos, y: panel.gridPos.y + shift } });
      continue;
    }
    const variable = dashboard.templating.list.find(({ name }) => name === panel.repeat);
    const [, query, label] = variable.query.match(/^label_values\((.*), (\w+)\)$/);
    const { result } = await fetchData(context.prometheus, 'query', { query: interpolate(query, 30), time: context.to });
    const values = [...new Set(result.map(({ metric }) => metric[label]))].sort();
    const across = Math.min(panel.maxPerRow, values.length);
    const { h, y } = panel.gridPos;
    values.forEach((value, place) => {
      const gridPos = { w: 24 / across, h, x: (place % across) * (24 / across), y: y + Math.floor(place / across) * h };
      panels.push({ ...panel, gridPos, variables: { [panel.repeat]: value } });
    });
    repeatedAt = y;
    rowsAdded = (Math.ceil(values.length / across) - 1) * h;
  }
  return panels;
}

async function page(dashboard, context, width) {
  const panels = await expandRepeats(dashboard, context);
  const narrow = width < 700;
  const column = (width - 2 * GAP + GAP) / 24;
  let below = TOP;
  const boxes = [];
  for (const panel of panels) {
    const { x, y, w, h } = panel.gridPos;
    const wide = narrow ? width - 2 * GAP : w * column - GAP, high = h * (ROW + GAP) - GAP;
    const place = narrow ? [GAP, below] : [GAP + x * column, TOP + y * (ROW + GAP)];
    below = Math.max(below, place[1] + high + GAP);
    const inside = await drawPanel(panel, { ...context, variables: panel.variables }, wide, high);
    boxes.push(`<section class="${panel.type}" style="left:${place[0]}px;top:${place[1]}px;width:${wide}px;height:${high}px">${inside}</section>`);
  }
  const { colors } = context.theme;
  const selectors = dashboard.templating.list.filter(({ hide }) => hide !== 2)
    .map(({ label, type }) => `<span><em>${escape(label)}</em>${type === 'datasource' ? 'Prometheus' : 'All'}</span>`).join('');
  const hours = Math.round((context.to - context.from) / 3600);
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escape(dashboard.title)}</title><style>
    * { box-sizing: border-box; margin: 0 }
    body { background: ${colors.background.canvas}; color: ${colors.text.primary}; font: 13px Inter, Roboto, "DejaVu Sans", sans-serif; width: ${width}px; position: relative; height: ${below}px; overflow: hidden }
    header { padding: 12px ${GAP + 2}px 0; height: ${TOP - 8}px; overflow: hidden }
    header h1 { font-size: 18px; font-weight: 500; display: inline-block; margin-right: 16px } header p { color: ${colors.text.secondary}; display: inline-block }
    header div { margin-top: 10px; white-space: nowrap } header span { border: 1px solid ${colors.border.medium}; border-radius: 2px; margin-right: 8px; padding: 4px 8px 4px 0 } ${narrow ? 'header div { display: none }' : ''} header em { font-style: normal; background: ${colors.background.secondary}; color: ${colors.text.secondary}; padding: 4px 8px; margin-right: 8px }
    section { position: absolute; background: ${colors.background.primary}; border: 1px solid ${colors.border.weak}; border-radius: 2px; padding: 8px; overflow: hidden }
    section.row { background: none; border: none; padding: 5px 2px } h2 { font-size: 15px; font-weight: 500 }
    h3 { font-size: 13px; font-weight: 500; margin-bottom: 8px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
    svg text { fill: ${colors.text.secondary}; font-size: 11px } svg { display: block }
    .big { font-size: ${narrow ? 34 : 30}px; font-weight: 500; text-align: center; line-height: 1.1; height: calc(100% - 24px); display: flex; align-items: center; justify-content: space-around } .big small { display: block; font-size: 13px; line-height: 1.6; color: ${colors.text.primary} }
    .empty { color: ${colors.text.secondary}; text-align: center; padding-top: 60px }
    .scroll { overflow: hidden; height: calc(100% - 24px) } table { width: 100%; border-collapse: collapse; white-space: nowrap } th { font-weight: 500; color: ${colors.primary.text}; text-align: left; padding: 6px 8px; font-size: 12px } td { padding: 6px 8px; border-top: 1px solid ${colors.border.weak} } .number { text-align: right } td i { display: inline-block; height: 12px; vertical-align: -1px; margin-right: 8px }
    .legend { list-style: none; padding: 0; font-size: 12px; color: ${colors.text.primary} } .legend b { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 6px; vertical-align: 3px }
    .legend.below li { display: inline-block; margin: 3px 14px 0 0 }
  </style><header><h1>${escape(dashboard.title)}</h1><p>last ${hours} hours · drawn from the JSON without Grafana</p><div>${selectors}</div></header>${boxes.join('\n')}</html>`;
  return { html, height: Math.ceil(below) };
}

// ---- Pictures

async function drawDashboards(names, prometheus, to) {
  const { folder } = options;
  fs.mkdirSync(folder, { recursive: true });
  for (const name of names) {
    const dashboard = JSON.parse(fs.readFileSync(path.join(HERE, `${name}.json`), 'utf8'));
    const hours = Number(dashboard.time.from.match(/^now-(\d+)h$/)[1]);
    for (const mode of ['dark', 'light']) {
      const theme = grafana.createTheme({ colors: { mode } });
      for (const [screen, width] of Object.entries(SCREENS)) {
        const { html, height } = await page(dashboard, { prometheus, from: to - 3600 * hours, to, theme }, width);
        const file = path.join(folder, `${name}-${mode}-${screen}`);
        fs.writeFileSync(`${file}.html`, html);
        if (options.pages) continue;
        const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run', '--disable-background-networking'];
        const shot = [`--screenshot=${file}.png`, `--window-size=${width},${height}`, `file://${path.resolve(file)}.html`];
        const run = spawnSync('chromium', [...flags, ...shot], { encoding: 'utf8' });
        if (run.status !== 0) throw new Error(`chromium: ${run.stderr}`);
        console.log(`${file}.png`);
      }
    }
  }
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    folder: { type: 'string', default: path.join(TARGET, 'pictures') },
    until: { type: 'string' },
    pages: { type: 'boolean', default: false },
    open: { type: 'boolean', default: false },
  },
});
if (positionals.length !== 1) {
  console.error('usage: node grafana/render.mjs SOURCE [--folder FOLDER] [--until UNIX-TIME] [--pages] [--open]');
  process.exit(2);
}
const [source] = positionals;
const names = fs.readdirSync(HERE).filter((file) => file.endsWith('.json')).map((file) => path.basename(file, '.json'));
const isFleet = (name) => name === 'xt-fleet';

/** Draws dashboards with the samples of a program that ends with its input. */
async function drawDemo(script, parameters, drawn) {
  const demo = spawn('python3', [path.join(HERE, script), ...parameters], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    for await (const line of readline.createInterface({ input: demo.stdout })) {
      const { prometheus, recorded_until: until } = JSON.parse(line);
      await drawDashboards(drawn, prometheus, until);
      demo.stdin.end();
    }
  } finally {
    demo.stdin.end();
  }
}

if (source.startsWith('http')) {
  await drawDashboards(names, source.replace(/\/$/, ''), Number(options.until ?? Math.floor(Date.now() / 1000)));
} else {
  console.log('Recording the demo day takes four minutes.');
  // The demo day repeats each recorded value for two minutes.
  scrapeSeconds = 120;
  await drawDemo('demo.py', [source], names.filter((name) => !isFleet(name)));
  scrapeSeconds = 60;
  await drawDemo('fleet_demo.py', [], names.filter(isFleet));
}
