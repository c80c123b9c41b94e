const run = data.run;

const rowNames = {
  teacher: 'Teacher',
  window_only: 'Window only (64 keys, untrained)',
  own_window: 'Own windows (untrained)',
  converted: 'Converted (untrained)',
  base: 'Before training',
  trained: 'Trained',
  decoded: 'Trained, token by token',
  branch_off: 'Trained, recurrence off',
};
const results = run.results || {};
const names = Object.keys(rowNames).filter((name) => results[name]);

function showHeader() {
  byId('title').textContent = data.name;
  const model = run.model.path ? run.model.path : 'a randomly initialised model';
  const recipe = run.plan.recipe === 'none' ? 'no linearization' : run.plan.recipe;
  const time = run.written.replace('T', ' ').replace('Z', ' UTC');
  byId('subtitle').textContent = [
    `${recipe} of ${model}`, run.status, time, `tigon ${run.versions.tigon} (${run.versions.git})`,
  ].join(' · ');
}

function showTiles() {
  if (results.trained) {
    addTile('trained, nats a token', fixed(results.trained.nats_per_token, 4));
    addTile('trained, perplexity', fixed(results.trained.perplexity, 2));
  } else if (run.best_validation) {
    addTile('best validation loss', fixed(run.best_validation.loss, 4));
  }
  if (results.trained && isKnown(results.trained.recovered)) {
    addTile('recovered', percent(results.trained.recovered));
  }
  addTile('tokens trained on', count(run.tokens));
  addTile('tokens a second', count(run.tokens_per_s));
  addTile('training time', duration(run.wall_seconds));
  addTile('peak memory', bytes(run.peak_memory_bytes));
  addTile('trainable parameters', count(run.parameters.trainable));
}

function showResult() {
  if (names.length === 0) {
    byId('result').remove();
    return;
  }
  const isCompared = Boolean(results.teacher);
  const tokens = results[names[0]].tokens;
  const meaning =
      ' Recovered: the share of the way from the untrained 64-key window to the teacher.';
  byId('result-note').textContent =
      `Held-out loss over ${tokens.toLocaleString('en')} predictions.` +
      (isCompared ? meaning : '');
  const table = byId('result-table');
  const header = ['', 'nats a token', 'perplexity'];
  if (isCompared) header.push('recovered', 'over own window', 'distance to the best');
  addRow(table, header, 'th');
  const losses = names.map((name) => results[name].nats_per_token);
  const low = Math.min(...losses), span = Math.max(...losses) - low || 1;
  for (const name of names) {
    const row = results[name];
    const cells = [rowNames[name], fixed(row.nats_per_token, 4), fixed(row.perplexity, 2)];
    if (isCompared) {
      const bar = element('td', undefined, 'bar');
      const filled = element('div');
      filled.style.width = 100 * (row.nats_per_token - low) / span + '%';
      filled.title = `${fixed(row.nats_per_token - low, 4)} nats above the best`;
      bar.append(filled);
      cells.push(percent(row.recovered), percent(row.over_own_window), bar);
    }
    addRow(table, cells, 'td', name === 'trained' ? 'strong' : '');
  }
}

function showMemory() {
  const table = byId('memory-table');
  addRow(table, ['tokens', 'teacher', 'this model', 'ratio'], 'th');
  for (const row of run.state_bytes) {
    addRow(table, [length(row.tokens), bytes(row.teacher), bytes(row.student),
                   (row.teacher / row.student).toFixed(1) + ' ×'], 'td');
  }
}

function showFacts() {
  const table = byId('facts-table');
  const fact = (name, value) => addRow(table, [name, element('td', value, 'wrap')], 'td');
  const parameters = run.parameters;
  fact('Parameters', `${count(parameters.base)} base + ${count(parameters.lora)} LoRA + ` +
      `${count(parameters.new)} new`);
  const ending = run.stopped_early ? ' (stopped early)' : '';
  fact('Steps', `${run.steps} of ${run.planned.steps}${ending}`);
  const best = run.best_validation, result = run.result, hardware = run.hardware;
  if (best) fact('Best validation', `${fixed(best.loss, 4)} at step ${best.step}`);
  if (result) fact('Evaluated', `checkpoints/${result.checkpoint} (step ${result.step})`);
  const rows = run.data.train.rows.toLocaleString('en');
  fact('Training rows', `${rows} of ${run.data.seq_len} tokens`);
  fact('Device', hardware.gpu || `${hardware.processor}, ${hardware.threads} threads`);
  fact('Computed in', run.model.dtype);
  fact('LibTorch, CUDA', `${run.versions.libtorch}, ${run.versions.cuda}`);
  if (run.export) fact('Exported to', run.export);
}

function showLayers() {
  const table = byId('layers-table');
  for (let first = 0; first < run.mixers.length;) {
    let last = first;
    while (run.mixers[last + 1] === run.mixers[first]) last++;
    const layers = first === last ? String(first) : `${first} – ${last}`;
    addRow(table, [layers, element('td', run.mixers[first], 'wrap')], 'td');
    first = last + 1;
  }
  table.querySelectorAll('td').forEach((cell) => { cell.style.textAlign = 'left'; });
}

// --- curves

const stepTitle = {title: (items) => 'step ' + items[0].parsed.x};
const overSteps = (id, title, datasets, y) =>
    drawChart(id, title, datasets, {x: axis('step'), y: axis('', y), tooltip: stepTitle});

const column = (name) => data.curves.train.map((point) => ({x: point.step, y: point[name]}));

/// Running mean whose memory is a fiftieth of the run.
function smoothed(points) {
  const keep = Math.exp(-1 / Math.max(1, points.length / 50));
  let mean = 0, weight = 0;
  return points.map(({x, y}) => {
    mean = keep * mean + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return {x, y: mean / weight};
  });
}

function level(label, name, dash) {
  const steps = data.curves.train;
  if (!results[name] || steps.length === 0) return [];
  const y = results[name].nats_per_token;
  const points = [{x: steps[0].step, y}, {x: steps[steps.length - 1].step, y}];
  return [line(label, points, css('--muted'), {borderDash: dash, borderWidth: 1.2})];
}

function showCurves() {
  const loss = column('loss');
  if (loss.length === 0) {
    byId('curves').remove();
    return;
  }
  const validation = data.curves.validation.map((point) => ({x: point.step, y: point.val_loss}));
  const sets = [
    line('training', loss, css('--second') + '55', {borderWidth: 1}),
    line('training, smoothed', smoothed(loss), css('--second')),
  ];
  if (validation.length > 0) {
    sets.push(line('validation', validation, css('--accent'), {pointRadius: 3, borderWidth: 2}));
  }
  const levels = level('teacher', 'teacher', [6, 4]);
  levels.push(...level('window only', 'window_only', [2, 3]));
  overSteps('loss', 'Loss, nats a token', sets.concat(levels), {});
  const fromZero = {beginAtZero: true};
  overSteps('lr', 'Learning rate', [line('lr', column('lr'), css('--good'))], fromZero);
  const norm = line('norm', column('grad_norm'), css('--second'), {borderWidth: 1});
  overSteps('grad-norm', 'Gradient norm', [norm], fromZero);
}

showHeader();
showTiles();
showResult();
showMemory();
showFacts();
showLayers();
byId('config-text').textContent = data.config;
showCurves();
