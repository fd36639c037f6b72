// Finds the first of many rules for each of many leads with a rule engine from npm: zen (@gorules/zen-engine, one decision table)
// or jre (json-rules-engine, one engine with a rule each). Compares the answers with those of leadroute, then measures.
//
//   node peers.js zen|jre FOLDER SECONDS     FOLDER has rules.json, leads.json and answers.json
//
// Prints: nanoseconds a lead, milliseconds to load the rules, how many answers agree, of how many, and how many leads were
// measured. A pass that would take longer than SECONDS ends there. Leads are made into what an engine takes before the clock runs.
import { readFileSync } from 'node:fs';
import { Engine } from 'json-rules-engine';
import { ZenEngine } from '@gorules/zen-engine';

const [name, folder, seconds] = process.argv.slice(2);
const read = (file) => JSON.parse(readFileSync(`${folder}/${file}.json`, 'utf8'));
const limit = BigInt(Math.round(Number(seconds) * 1e9));
const lists = { country: 'countries', region: 'regions', industry: 'industries', source: 'sources' };
const weights = { country: 4, region: 3, industry: 3, source: 2 };
const bounds = { company_size: ['size_from', 'size_to'], postcode: ['postcode_from', 'postcode_to'], score: ['score_from', null] };

// A decision table: a column a fact, a row a rule; an empty cell takes everything.
function zen(rules) {
  const columns = [...Object.keys(lists), ...Object.keys(bounds)];
  const row = (rule) => {
    const cells = { _id: `${rule.rule_no}`, answer: `${rule.rule_no}` };
    for (const column of columns) cells[column] = '';
    for (const [column, list] of Object.entries(lists)) {
      if (rule[list]) cells[column] = rule[list].map((value) => JSON.stringify(value)).join(', ');
    }
    for (const [column, [from, to]] of Object.entries(bounds)) {
      const low = rule[from] ?? null;
      const high = to ? rule[to] ?? null : null;
      if (low !== null && high !== null) cells[column] = `[${low}..${high})`;
      else if (low !== null) cells[column] = `>= ${low}`;
      else if (high !== null) cells[column] = `< ${high}`;
    }
    return cells;
  };
  const table = {
    hitPolicy: 'first',
    inputs: columns.map((column) => ({ id: column, name: column, type: 'expression', field: column })),
    outputs: [{ id: 'answer', name: 'answer', type: 'expression', field: 'answer' }],
    rules: rules.map(row),
  };
  const decision = new ZenEngine().createDecision({
    contentType: 'application/vnd.gorules.decision',
    nodes: [
      { id: 'in', name: 'in', type: 'inputNode', position: { x: 0, y: 0 } },
      { id: 'table', name: 'table', type: 'decisionTableNode', position: { x: 1, y: 0 }, content: table },
      { id: 'out', name: 'out', type: 'outputNode', position: { x: 2, y: 0 } },
    ],
    edges: [
      { id: 'a', type: 'edge', sourceId: 'in', targetId: 'table' },
      { id: 'b', type: 'edge', sourceId: 'table', targetId: 'out' },
    ],
  });
  return async (lead) => (await decision.evaluate(lead)).result?.answer ?? null;
}

// Rules of different priority run one after the other, and the first that holds stops the engine; conditions of higher priority are
// looked at first. Without either it takes longer.
function jre(rules) {
  const engine = new Engine();
  let answer = null;
  rules.forEach((rule, n) => {
    const all = [];
    for (const [fact, list] of Object.entries(lists)) {
      const priority = weights[fact];
      if (rule[list]?.length === 1) all.push({ fact, operator: 'equal', value: rule[list][0], priority });
      else if (rule[list]) all.push({ fact, operator: 'in', value: rule[list], priority });
    }
    for (const [fact, [from, to]] of Object.entries(bounds)) {
      if ((rule[from] ?? null) !== null) all.push({ fact, operator: 'greaterThanInclusive', value: rule[from] });
      if (to && (rule[to] ?? null) !== null) all.push({ fact, operator: 'lessThan', value: rule[to] });
    }
    engine.addRule({
      conditions: { all },
      event: { type: 'found' },
      priority: rules.length - n,
      onSuccess: () => {
        answer = rule.rule_no;
        engine.stop();
      },
    });
  });
  return async (lead) => {
    answer = null;
    await engine.run(lead);
    return answer;
  };
}

const rules = read('rules');
const leads = read('leads');
const answers = read('answers');
const loading = process.hrtime.bigint();
const find = { zen, jre }[name](rules);
await find(leads[0]);
const loaded = process.hrtime.bigint() - loading;

async function pass(check) {
  const start = process.hrtime.bigint();
  let n = 0;
  let agree = 0;
  while (n < leads.length && (n % 16 !== 0 || process.hrtime.bigint() - start < limit)) {
    const answer = await find(leads[n]);
    if (check && answer === answers[n]) agree++;
    n++;
  }
  return { n, agree, ns: Number(process.hrtime.bigint() - start) / n };
}

const checked = await pass(true);
const measured = await pass(false);
console.log(Math.round(measured.ns), Math.round(Number(loaded) / 1e6), checked.agree, checked.n, measured.n);
