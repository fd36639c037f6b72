// An agent outside of the database, in Node: takes tasks with `pg`, has a function do them, many at a time, and gives back what it says.
//
//   npm install pg
//   node agent.mjs NAME@VERSION ./work.mjs
//
// The module exports work(inputs, { task, attempt, signal }), which returns { output, confidence, model, telemetry }, all but the output
// optional, or throws. An error's code, such as rate_limited, goes on record, its message does not; retryable = false says that trying
// again is in vain. signal is aborted when nobody wants the result any more. The same task may come twice: its id is the same on every
// attempt, so it is the key to recognise it by.
//
// Connects as the agent's owner, by the variables of libpq (PGHOST, PGDATABASE, PGUSER, …). Ends on SIGTERM or SIGINT and gives its tasks
// back. What it is killed with is somebody else's when the lease is over.
//
//   LEASE=60  seconds without a heartbeat after which others get a task     BATCH=100  tasks in hand at most
//   POLL=30   seconds between two looks when nobody tells of tasks          HOLDER=host-pid  which of several it is
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';

const [agent, module] = process.argv.slice(2);
const { work } = await import(pathToFileURL(path.resolve(module)));
const lease = Number(process.env.LEASE ?? 60);
const batch = Number(process.env.BATCH ?? 100);
const poll = Number(process.env.POLL ?? 30);
const holder = process.env.HOLDER ?? `${os.hostname()}-${process.pid}`;
const say = (...words) => console.error('agent.mjs:', ...words);

const pool = new pg.Pool({ max: 4 });
pool.on('error', (error) => say('connection:', error.message));

const inHand = new Map(); // task → { token, stop }
const isOurs = ({ task, token }) => inHand.get(task)?.token === token;
const forget = (one) => { if (isOurs(one)) inHand.delete(one.task); }; // it may have come again meanwhile
const done = []; // results that are not given back yet
const failed = [];
let stopping = false;
let wake = () => {};
const sleep = (seconds) => new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    wake = () => { clearTimeout(timer); resolve(); };
});

// LR001: the lease ran out, and others have the task; LR014: its run does not want it any more.
function letGo(one, code) {
    say(`${one.task} is not ours any more: ${code}`);
    if (!isOurs(one)) return;
    inHand.get(one.task).stop.abort();
    forget(one);
}

// Listens for queues that have new tasks; keeps trying when the connection is lost.
async function listen() {
    while (!stopping) {
        const client = new pg.Client();
        try {
            const lost = new Promise((resolve) => { client.on('error', resolve); client.on('end', resolve); });
            await client.connect();
            client.on('notification', () => wake());
            await client.query('LISTEN leadroute_tasks');
            wake(); // what came before
            listener = client;
            await lost;
        } catch (error) {
            say('listening:', error.message);
        }
        if (!stopping) await new Promise((resolve) => setTimeout(resolve, 1000));
    }
}
let listener;

async function claim() {
    const room = batch - inHand.size;
    if (room <= 0) return 0;
    const { rows } = await pool.query({
        name: 'claim',
        text: `SELECT task, token, attempt, inputs FROM leadroute.claim_tasks($1, max => $2, lease => make_interval(secs => $3), holder => $4)`,
        values: [agent, room, lease, holder],
    });
    for (const row of rows) {
        inHand.set(row.task, { token: row.token, stop: new AbortController() });
        doTask(row);
    }
    return rows.length;
}

async function doTask({ task, token, attempt, inputs }) {
    const { stop } = inHand.get(task);
    try {
        const result = await work(inputs ?? {}, { task, attempt, signal: stop.signal });
        done.push({ task, token, ...result });
    } catch (error) {
        if (stop.signal.aborted) return;
        const code = /^[a-z][a-z0-9_]{0,62}$/.test(error.code) ? error.code : 'exception';
        failed.push({ task, token, code, retryable: error.retryable ?? true });
    }
    setImmediate(giveBack);
}

// Gives back what is done, all of it in one statement. One at a time; what comes meanwhile goes with the next.
let givingBack = null;
function giveBack() {
    givingBack ??= (async () => {
        await null;
        try {
            while (done.length + failed.length > 0) {
                const finished = done.splice(0).filter(isOurs);
                const given = failed.splice(0).filter(isOurs);
                try {
                    if (finished.length > 0) await complete(finished);
                    if (given.length > 0) await fail(given);
                } catch (error) {
                    // nothing of it was done, or all of it: then it is refused when it comes again
                    say('giving back:', error.code, error.message);
                    if (error.code === '22023') {
                        // one of them cannot be used: which one shows alone
                        if (finished.length > 1) for (const one of finished) await complete([one]).catch(() => unusable(one));
                        else finished.forEach(unusable);
                    } else {
                        done.push(...finished);
                        failed.push(...given);
                        await new Promise((resolve) => setTimeout(resolve, 1000));
                    }
                }
            }
        } finally {
            givingBack = null;
            wake();
        }
    })();
    return givingBack;
}

function unusable({ task, token }) {
    failed.push({ task, token, code: 'unusable_output', retryable: false });
}

async function complete(finished) {
    const { rows } = await pool.query({
        name: 'complete',
        text: `SELECT task, refused FROM leadroute.complete_tasks($1, $2, $3, $4, $5, $6)`,
        values: [finished.map((f) => f.task), finished.map((f) => f.token), finished.map((f) => JSON.stringify(f.output)),
            finished.map((f) => f.confidence ?? null), finished.map((f) => f.model ?? null),
            finished.map((f) => (f.telemetry ? JSON.stringify(f.telemetry) : null))],
    });
    for (const row of rows) letGo(finished.find((f) => f.task === row.task), row.refused);
    finished.forEach(forget);
}

async function fail(given) {
    const { rows } = await pool.query({
        name: 'fail',
        text: `SELECT task, refused FROM leadroute.fail_tasks($1, $2, $3, $4)`,
        values: [given.map((g) => g.task), given.map((g) => g.token), given.map((g) => g.code), given.map((g) => g.retryable)],
    });
    for (const row of rows) letGo(given.find((g) => g.task === row.task), row.refused);
    given.forEach(forget);
}

// Keeps what is in hand.
async function heartbeat() {
    for (const [task, { token }] of [...inHand]) {
        try {
            await pool.query(`SELECT leadroute.extend_task($1, $2, make_interval(secs => $3))`, [task, token, lease]);
        } catch (error) {
            if (error.code === 'LR001' || error.code === 'LR014') letGo({ task, token }, error.code);
            else say('heartbeat:', error.code, error.message);
        }
    }
}
const beating = setInterval(heartbeat, (lease * 1000) / 3);

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { stopping = true; wake(); });
const listening = listen();
while (!stopping) {
    let claimed = 0;
    try {
        claimed = await claim();
    } catch (error) {
        say('claiming:', error.code, error.message);
        await sleep(1);
        continue;
    }
    if (claimed === 0 || inHand.size >= batch) await sleep(poll);
}

// Others shall not have to wait for the leases to run out.
clearInterval(beating);
await giveBack();
for (const [task, { token, stop }] of inHand) {
    stop.abort();
    failed.push({ task, token, code: 'stopped', retryable: true });
}
await giveBack();
await listener?.end();
await listening;
await pool.end();
say('stopped');
process.exit(0);
