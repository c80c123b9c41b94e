'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const css = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// --- numbers for people

const isKnown = (value) => value !== null && value !== undefined;
const fixed = (value, digits) => isKnown(value) ? value.toFixed(digits) : '–';
const percent = (value) => isKnown(value) ? (100 * value).toFixed(1) + ' %' : '–';
const twoDigits = (value) => String(Math.floor(value)).padStart(2, '0');
function count(value) {
  for (const [size, unit] of [[1e12, ' T'], [1e9, ' G'], [1e6, ' M'], [1e4, ' K']]) {
    if (value >= size) return (value / (unit === ' K' ? 1e3 : size)).toPrecision(3) + unit;
  }
  return Math.round(value).toLocaleString('en');
}
function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit++; }
  return value.toFixed(value < 10 && unit > 0 ? 1 : 0) + ' ' + units[unit];
}
function duration(seconds) {
  if (seconds < 60) return seconds.toFixed(0) + ' s';
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${twoDigits(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}
function length(tokens) {
  if (tokens >= 1 << 20) return (tokens >> 20) + ' M';
  return tokens >= 1024 ? (tokens >> 10) + ' K' : String(tokens);
}

// --- building the page; text only ever goes in through textContent

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function addRow(table, cells, tag, className) {
  const row = element('tr', undefined, className);
  for (const cell of cells) row.append(cell instanceof Node ? cell : element(tag, cell));
  table.append(row);
}
function addTile(label, value) {
  const tile = element('div', undefined, 'tile');
  tile.append(element('div', value, 'value'), element('div', label, 'label'));
  byId('tiles').append(tile);
}

// --- charts

const palette = ['--second', '--accent', '--good', '--violet', '--gold', '--teal', '--rose', '--muted'];
const color = (index) => css(palette[index % palette.length]);

function axis(name, more) {
  return {
    type: 'linear',
    grid: {color: css('--line')},
    ticks: {color: css('--muted'), maxTicksLimit: 8},
    title: {display: Boolean(name), text: name, color: css('--muted')},
    ...more,
  };
}

/// A chart in the canvas with this id. `more`: type, x and y (axes), interaction, tooltip, legend.
function drawChart(id, title, datasets, more) {
  new Chart(byId(id), {
    type: more.type || 'line',
    data: {datasets},
    options: {
      animation: false,
      maintainAspectRatio: false,
      parsing: more.parsing || false,
      indexAxis: more.indexAxis || 'x',
      interaction: more.interaction || {mode: 'nearest', axis: 'x', intersect: false},
      scales: {x: more.x || axis(''), y: more.y || axis('')},
      plugins: {
        title: {
          display: Boolean(title), text: title, color: css('--text'), align: 'start',
          font: {size: 14, weight: '600'},
        },
        legend: {
          display: datasets.length > 1,
          ...more.legend,
          labels: {
            color: css('--muted'), boxWidth: 18, boxHeight: 2, ...(more.legend || {}).labels,
          },
        },
        tooltip: {callbacks: more.tooltip || {}},
      },
    },
  });
}

const line = (label, points, color, more) => ({
  label, data: points, borderColor: color, backgroundColor: color, borderWidth: 1.6, pointRadius: 0,
  ...more,
});
