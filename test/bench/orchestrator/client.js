// The Node client of `make bench LINES=orchestrator`: does no-op jobs of one queue, and acknowledges each.
//
//   node client.js SIDE JOBS WARM_UP      prints jobs per second
//
// Every side is one process that has its jobs waiting before it begins. The clock starts once WARM_UP of them were done, so that what
// starting takes counts for nobody, and stops when the last one is acknowledged. Whether all are is looked up afterwards; if not, it fails.
// BATCH: how many jobs are fetched and acknowledged at once, where the side does that; LOOPS: how many connections do so side by side.
//
//   leadroute                   claim_tasks() and complete_tasks()
//   graphile, graphile_plain    graphile-worker: as its page on performance has it; and as it is installed
//   boss, boss_plain            pg-boss: fetch() and complete() of batches; and job by job, as both do unless told otherwise
import pg from 'pg'

const [side, jobs, warmUp] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
const batch = Number(process.env.BATCH ?? 500)
const loops = Number(process.env.LOOPS ?? 4)
const connectionString = `postgres://${process.env.PGUSER}@localhost:${process.env.PGPORT}/${process.env.PGDATABASE}?host=${encodeURIComponent(process.env.PGHOST)}`

let handled = 0, counted = 0, started = 0

// What the jobs do: they are counted.
function work(n) {
  handled += n
  if (started === 0 && handled >= warmUp) {
    started = performance.now()
    counted = jobs - handled
  }
}

const sides = {
  leadroute: () => inLoops(async () => {
    const client = new pg.Client({ connectionString })
    await client.connect()
    const claim = { name: 'claim', text: 'SELECT * FROM leadroute.claim_tasks($1, max => $2)', values: ['noop@1', batch] }
    return {
      fetch: async () => (await client.query(claim)).rows,
      complete: async (tasks) => {
        const { rows } = await client.query({
          name: 'complete', text: 'SELECT * FROM leadroute.complete_tasks($1, $2, $3) WHERE refused IS NOT NULL',
          values: [tasks.map((t) => t.task), tasks.map((t) => t.token), tasks.map(() => '{}')]
        })
        if (rows.length > 0) throw new Error(`${side}: ${rows[0].task} was refused`)
      },
      end: () => client.end()
    }
  }, loops),

  graphile: () => graphile({
    concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: batch }, completeJobBatchDelay: 0, failJobBatchDelay: 0
  }),
  graphile_plain: () => graphile({}),

  boss: () => boss(batch, loops),
  boss_plain: () => boss(1, 1)
}

// Runs so many loops beside each other, each until it is given nothing any more; make() connects one.
async function inLoops(make, n) {
  const queues = await Promise.all(Array.from({ length: n }, make))
  await Promise.all(queues.map(async (queue) => {
    for (;;) {
      const tasks = await queue.fetch()
      if (tasks.length === 0) return
      work(tasks.length)
      await queue.complete(tasks)
    }
  }))
  const ended = performance.now()
  await Promise.all(queues.map((queue) => queue.end()))
  return ended
}

async function graphile(options) {
  const { Logger, run, runMigrations } = await import('graphile-worker')
  const preset = { worker: { connectionString, logger: new Logger(() => () => {}), ...options } }
  await runMigrations({ preset })
  await query('TRUNCATE graphile_worker._private_jobs')
  await query(`SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT json_populate_record(NULL::graphile_worker.job_spec, json_build_object('identifier', 'noop', 'payload', json_build_object('id', n)))
    FROM generate_series(1, ${jobs}) n))`)
  await settle('graphile_worker._private_jobs')
  let all
  const done = new Promise((resolve) => { all = resolve })
  const runner = await run({ preset, taskList: { noop: () => { work(1); if (handled === jobs) all() } } })
  await done
  await runner.stop() // ends when the last job is acknowledged
  const ended = performance.now()
  await expect('SELECT 0 = count(*) FROM graphile_worker._private_jobs')
  return ended
}

async function boss(size, n) {
  const { PgBoss } = await import('pg-boss')
  const queue = new PgBoss({ connectionString })
  queue.on('error', (error) => { throw error })
  await queue.start()
  await queue.deleteQueue('noop')
  await queue.createQueue('noop')
  for (let i = 0; i < jobs; i += 10000) {
    await queue.insert('noop', Array.from({ length: Math.min(10000, jobs - i) }, (_, k) => ({ data: { id: i + k } })))
  }
  await settle('')
  const ended = await inLoops(() => ({
    fetch: () => queue.fetch('noop', { batchSize: size }),
    complete: (fetched) => queue.complete('noop', fetched.map((job) => job.id)),
    end: () => {}
  }), n)
  await queue.stop({ graceful: false })
  await expect(`SELECT ${jobs} = count(*) FROM pgboss.job WHERE name = 'noop' AND state = 'completed'`)
  return ended
}

async function query(text) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query({ text, rowMode: 'array' })).rows
  } finally {
    await client.end()
  }
}

// As before every run of every line: statistics are there, and no checkpoint is due.
async function settle(table) {
  await query(`VACUUM (ANALYZE) ${table}`)
  await query('CHECKPOINT')
}

// A queue may be a moment behind what it says.
async function expect(text) {
  for (const tried = performance.now(); (await query(text))[0][0] !== true;) {
    if (performance.now() - tried > 2000) throw new Error(`${side}: not every job is acknowledged`)
  }
}

const ended = await sides[side]()
if (handled !== jobs) throw new Error(`${side}: ${handled} of ${jobs} jobs were done`)
console.log(Math.round(counted / (ended - started) * 1000))
process.exit(0)
