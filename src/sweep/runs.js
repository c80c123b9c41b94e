const {runs, groups, differing} = data;
const mean = (group, id) => group.numbers[id] ? group.numbers[id].mean : undefined;
const recipe = (group) => runs[group.indices[0]].recipe;
const isBudget = (key) => ['train.tokens', 'train.steps', 'train.epochs'].includes(key);
/// Settings of a recipe that say how many bytes its state has.
const isMemory = (key) =>
    /^linearize\.(window_keys|state_bytes|state_dtype|feature_rank|layer_windows|layer_feature_ranks)\b/
        .test(key);

const show = {
  tokens: count,
  spikes: count,
  trainable: count,
  recovered: percent,
  over_own_window: percent,
  state_bytes: bytes,
  state_bytes_per_head: (value) => (value / 1024).toFixed(2) + ' KiB',
  wall_seconds: duration,
  tokens_per_s: count,
  peak_memory_bytes: bytes,
};
const kMostLegend = 12;  // labels that still can be told apart
const showNumber = (id, value) => show[id] ? show[id](value) : fixed(value, 4);
function showSetting(value) {
  if (value === undefined) return '–';
  return /^\d{6,}$/.test(value) ? count(Number(value)) : value;
}

/// The best group by a number; undefined if none has it.
function best(id, isBetter) {
  const having = groups.filter((group) => isKnown(mean(group, id)));
  return having.reduce(
      (found, group) => !found || isBetter(mean(group, id), mean(found, id)) ? group : found,
      undefined);
}

/// The one value that all groups have in common; undefined if they have several, or none.
function common(id) {
  const values = new Set(groups.map((group) => mean(group, id)).filter(isKnown)
      .map((value) => value.toFixed(6)));
  return values.size === 1 ? Number([...values][0]) : undefined;
}

function showHeader() {
  byId('title').textContent = data.title;
  const number = (status) => runs.filter((run) => run.status === status).length;
  const parts = [`${runs.length} run${runs.length === 1 ? '' : 's'}`];
  for (const status of ['complete', 'failed', 'unfinished', 'waiting']) {
    if (number(status) > 0) parts.push(`${number(status)} ${status}`);
  }
  const devices = [...new Set(runs.map((run) => run.device).filter(Boolean))];
  byId('subtitle').textContent = parts.concat(devices).join(' · ');
}

function showTiles() {
  const lowest = best('trained', (a, b) => a < b);
  if (lowest) addTile('lowest trained loss, ' + lowest.name, fixed(mean(lowest, 'trained'), 4));
  const most = best('recovered', (a, b) => a > b);
  if (most) addTile('most recovered, ' + most.name, percent(mean(most, 'recovered')));
  for (const [id, label] of [['teacher', 'teacher'], ['window_only', '64-key window, untrained']]) {
    if (isKnown(common(id))) addTile(label + ', nats a token', fixed(common(id), 4));
  }
  const seconds = runs.map((run) => run.numbers.wall_seconds || 0).reduce((a, b) => a + b, 0);
  if (seconds > 0) addTile('training time of all runs', duration(seconds));
}

/// Groups that differ in nothing but keys that are left out, as lists; each has its recipe in
/// common. A group by itself goes by its own name.
function series(list, isLeftOut) {
  const found = new Map();
  for (const group of list) {
    const rest = differing.filter((key) => !isLeftOut(key) && isKnown(group.settings[key]));
    const parts = rest.filter((key) => key !== 'linearize.recipe')
        .map((key) => `${data.short_keys[key]} ${showSetting(group.settings[key])}`);
    const name = [recipe(group), ...parts].join(', ');
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(group);
  }
  return [...found].map(([name, members]) =>
      ({name: members.length === 1 ? members[0].name : name, members}));
}

/// A few values far outside would squeeze what there is to see: bounds of an axis that leave them
/// out, and a note that says so. Without `bounds`, or if most lie outside, everything is shown.
function without(section, values, bounds) {
  const outside = bounds ? values.filter((y) => y < bounds.min || y > bounds.max).length : 0;
  if (outside === 0 || 2 * outside > values.length) return {};
  const mark = outside === 1 ? '1 mark lies' : `${outside} marks lie`;
  byId(section).querySelector('.note').append(` ${mark} beyond the axis; the table has all.`);
  return bounds;
}

function points(members, xId, yId) {
  return members.filter((group) => isKnown(mean(group, xId)) && isKnown(mean(group, yId)))
      .map((group) => ({
        x: mean(group, xId), y: mean(group, yId), name: group.name,
        spread: group.numbers[yId].deviation, seeds: group.numbers[yId].count,
      }))
      .sort((a, b) => a.x - b.x);
}

/// A horizontal line between two places.
function level(label, y, from, to, dash) {
  const ends = [{x: from, y}, {x: to, y}];
  return line(label, ends, css('--muted'), {borderDash: dash, borderWidth: 1.3});
}

const spreadText = (point) => point.seeds > 1 ? ` ± ${fixed(point.spread, 4)} (${point.seeds} seeds)` : '';
const nearest = {mode: 'nearest', intersect: true};
function pointLabel(item, shown) {
  const point = item.raw;
  return `${point.name || item.dataset.label}: ${shown(point.y)}${spreadText(point)}`;
}

// Sizes that double from tick to tick; where few of them fit, parts of each doubling too.
function sizeTicks(low, high) {
  let ticks = [];
  for (let parts = 1; parts <= 8 && ticks.length < 3; parts *= 2) {
    ticks = [];
    for (let size = 2 ** Math.floor(Math.log2(low)); size <= high; size *= 2) {
      for (let i = 0; i < parts; i++) ticks.push({value: size * (1 + i / parts)});
    }
    ticks = ticks.filter(({value}) => value >= low && value <= high);
  }
  return ticks;
}

function showState() {
  const sets = [];
  let index = 0;
  const all = series(groups, isMemory);
  const isWindow = ({members}) => recipe(members[0]) === 'window';
  // The windows first, so that the line to beat has the same colour on every page.
  for (const {name, members} of [...all.filter(isWindow), ...all.filter((one) => !isWindow(one))]) {
    const values = points(members, 'state_bytes', 'trained');
    if (values.length === 0) continue;
    const windows = recipe(members[0]) === 'window';
    const label = windows ? `${name} (the line to beat)` : name;
    sets.push(line(label, values, color(index++), {
      pointRadius: windows ? 4 : 6, pointHoverRadius: 8, pointStyle: windows ? 'circle' : 'rectRot',
      borderWidth: windows ? 2.4 : 1.2, borderDash: windows ? [] : [5, 4],
    }));
  }
  if (sets.length === 0) {
    byId('state').remove();
    return;
  }
  const sizes = sets.flatMap((set) => set.data.map((point) => point.x));
  const low = Math.min(...sizes) / 1.25, high = Math.max(...sizes) * 1.25;
  const losses = sets.flatMap((set) => set.data.map((point) => point.y));
  const highest = Math.max(...losses);
  const teacher = common('teacher'), untrained = common('window_only');
  const gap = untrained - teacher;
  const bounds = gap > 0 ?
      {min: Math.min(teacher, ...losses) - gap / 10, max: untrained + gap / 4} : undefined;
  for (const [id, label, dash] of
           [['teacher', 'teacher', [7, 4]], ['window_only', '64-key window, untrained', [2, 3]]]) {
    const y = common(id);
    // A baseline far above everything would squeeze what there is to see.
    if (isKnown(y) && y < highest + 0.5) sets.push(level(label, y, low, high, dash));
  }
  const ticks = sizeTicks(low, high);
  drawChart('state-chart', '', sets, {
    x: axis('bytes of state a sequence', {
      type: 'logarithmic', min: low, max: high,
      afterBuildTicks: (scale) => { scale.ticks = ticks; },
      ticks: {color: css('--muted'), autoSkip: true, callback: (value) => bytes(value)},
    }),
    y: axis('nats a token', without('state', losses, bounds)),
    interaction: nearest,
    legend: {
      labels: {
        // The lines, where there are too many marks to name them all.
        filter: (item) => sets.length <= kMostLegend || sets[item.datasetIndex].data.length > 1,
      },
    },
    tooltip: {
      title: (items) => bytes(items[0].parsed.x),
      label: (item) => pointLabel(item, (value) => fixed(value, 4)),
    },
  });
}

const tokensAxis = () =>
    axis('tokens', {ticks: {color: css('--muted'), maxTicksLimit: 7, callback: (v) => count(v)}});

function showValidation() {
  const sets = [];
  groups.forEach((group, index) => {
    group.indices.forEach((place, seed) => {
      const values = runs[place].validations;
      if (values.length === 0) return;
      const label = seed === 0 ? group.name : runs[place].name;
      sets.push(line(label, values.map((point) => ({...point, name: runs[place].name})),
          color(index), {pointRadius: values.length > 1 ? 0 : 3, borderWidth: seed === 0 ? 1.8 : 1,
                         isMain: seed === 0}));
    });
  });
  if (sets.length === 0) {
    byId('validation').remove();
    return;
  }
  drawChart('validation-chart', '', sets, {
    x: tokensAxis(),
    y: axis('nats a token'),
    interaction: {mode: 'nearest', intersect: false},
    legend: {
      display: sets.filter((set) => set.isMain).length <= kMostLegend,
      labels: {filter: (item) => sets[item.datasetIndex].isMain},
    },
    tooltip: {
      title: (items) => count(items[0].parsed.x) + ' tokens',
      label: (item) => pointLabel(item, (value) => fixed(value, 4)),
    },
  });
}

function showRecovered() {
  if (new Set(groups.map((group) => mean(group, 'tokens'))).size < 2) {
    byId('recovered-title').textContent = 'Recovered';
    const recovered = (group) => mean(group, 'recovered');
    showBars('recovered', 'recovered-chart', recovered, percent, '');
    return;
  }
  const all = series(groups, isBudget);
  const sets = all.map(({name, members}, index) => line(
      name, points(members, 'tokens', 'recovered').map((point) => ({...point, y: 100 * point.y,
        spread: 100 * point.spread})), color(index), {pointRadius: 4, pointHoverRadius: 7}))
      .filter((set) => set.data.length > 0);
  if (sets.length === 0) {
    byId('recovered').remove();
    return;
  }
  const shares = sets.flatMap((set) => set.data.map((point) => point.y));
  drawChart('recovered-chart', '', sets, {
    x: tokensAxis(),
    y: axis('recovered, %', without('recovered', shares, {min: -50, max: 150})),
    interaction: nearest,
    legend: {display: sets.length > 1 && sets.length <= kMostLegend},
    tooltip: {
      title: (items) => count(items[0].parsed.x) + ' tokens',
      label: (item) => pointLabel(item, (value) => value.toFixed(1) + ' %'),
    },
  });
}

/// One horizontal bar a group.
function showBars(section, id, value, shown, name) {
  const bars = groups.map((group) => ({group, x: value(group)})).filter(({x}) => isKnown(x));
  if (bars.length === 0) {
    byId(section).remove();
    return;
  }
  byId(id).parentElement.style.height = 60 + 24 * bars.length + 'px';
  const labels = bars.map(({group}) => group.name);
  const values = bars.map(({group, x}) => ({x, y: group.name, name: group.name}));
  const set = {
    label: name, data: values, backgroundColor: color(name === 'nats a token' ? 1 : 0),
    maxBarThickness: 16, borderRadius: 3,
  };
  drawChart(id, '', [set], {
    type: 'bar',
    indexAxis: 'y',
    parsing: {xAxisKey: 'x', yAxisKey: 'y'},
    x: axis(name, {ticks: {color: css('--muted'), maxTicksLimit: 6, callback: (v) => shown(v)}}),
    y: {
      type: 'category', labels, grid: {display: false},
      ticks: {color: css('--text'), autoSkip: false, font: {size: 12}},
    },
    interaction: {mode: 'nearest', axis: 'y', intersect: false},
    tooltip: {label: (item) => shown(item.parsed.x)},
  });
}

function showMemory() {
  const peaks = groups.map((group) => mean(group, 'peak_memory_bytes')).filter(isKnown);
  const [size, unit] = Math.max(...peaks) >= 2 ** 30 ? [2 ** 30, 'GiB'] : [2 ** 20, 'MiB'];
  const scaled = (group) => {
    const value = mean(group, 'peak_memory_bytes');
    return isKnown(value) ? value / size : undefined;
  };
  showBars('memory', 'memory-chart', scaled, (value) => value.toPrecision(3), unit);
}

/// The recurrence's worth: none for models that have no recurrence.
function branchWorth(group) {
  const off = mean(group, 'branch_off'), on = mean(group, 'trained');
  return isKnown(off) && isKnown(on) ? off - on : undefined;
}

function nameCell(group) {
  const cell = element('td');
  if (group.indices.length > 1 || !runs[group.indices[0]].link) {
    cell.append(group.name);
  }
  if (group.indices.length === 1 && runs[group.indices[0]].link) {
    const link = element('a', group.name);
    link.href = runs[group.indices[0]].link;
    cell.append(link);
  }
  if (group.indices.length > 1) {
    for (const place of group.indices.filter((index) => runs[index].link)) {
      const link = element('a', String(runs[place].seed), 'seed');
      link.href = runs[place].link;
      cell.append(' ', link);
    }
  }
  return cell;
}

function showTable() {
  if (groups.length === 0) {
    byId('table').remove();
    return;
  }
  // A budget that varies has a column among the settings.
  const isSetting = (id) => id === 'tokens' && differing.includes('train.tokens');
  // Baselines that all have in common stand in the tiles.
  const isInTiles = (id) =>
      ['teacher', 'window_only'].includes(id) && groups.length > 1 && isKnown(common(id));
  const numbers = data.numbers.filter(({id}) =>
      !isSetting(id) && !isInTiles(id) && groups.some((group) => mean(group, id)));
  const isSeveral = groups.some((group) => group.indices.length > 1);
  const seeds = isSeveral ? ' ± is the standard deviation over seeds.' : '';
  byId('table-note').textContent =
      'The settings that differ, then results. Losses are nats a token on held-out text.' + seeds;
  const header = ['run', ...differing.map((key) => data.short_keys[key]),
                  ...numbers.map(({title}) => title)];
  if (isSeveral) header.push('seeds');
  addRow(byId('groups-table'), header, 'th');
  const lowest = best('trained', (a, b) => a < b);
  for (const group of groups) {
    const cells = [nameCell(group), ...differing.map((key) => showSetting(group.settings[key]))];
    for (const {id, measured} of numbers) {
      const number = group.numbers[id];
      let text = number ? showNumber(id, number.mean) : '–';
      if (number && measured && number.deviation > 0) {
        const isShare = id === 'recovered' || id === 'over_own_window';
        text += ' ± ' + (isShare ? (100 * number.deviation).toFixed(1)
                                 : fixed(number.deviation, 4));
      }
      cells.push(text);
    }
    if (isSeveral) cells.push(String(group.indices.length));
    addRow(byId('groups-table'), cells, 'td', group === lowest ? 'strong' : '');
  }
}

function showOthers() {
  const others = runs.filter((run) => run.status !== 'complete');
  if (others.length === 0) {
    byId('others').remove();
    return;
  }
  addRow(byId('others-table'), ['run', 'status', 'steps', 'reason'], 'th');
  for (const run of others) {
    const steps = run.planned_steps > 0 ? `${run.steps} of ${run.planned_steps}` : '–';
    const reason = element('td', run.reason, 'wrap');
    reason.style.textAlign = 'left';
    addRow(byId('others-table'), [run.name, run.status, steps, reason], 'td');
  }
}

showHeader();
showTiles();
showState();
showValidation();
showRecovered();
showBars('branch', 'branch-chart', branchWorth, (v) => v.toFixed(3), 'nats a token');
showBars('speed', 'speed-chart', (group) => mean(group, 'tokens_per_s'), count, 'tokens a second');
showMemory();
showTable();
showOthers();
