// What an application does with mysql2 in Node.js: texts, prepared statements and a pool.
//
//     node mysql2.js HOST PORT USER PASSWORD LOGINS VISITS
//
// Each login works on a table of its own, which exists and is empty: mysql2_0, mysql2_1, and so on.
// So does each of the pool's connections: mysql2_pool_0 to mysql2_pool_7. It ends with an error when
// any answer is not what it should be.
"use strict";

const assert = require("node:assert");
const mysql = require("mysql2/promise");

const [host, port, user, password, logins, visits] = process.argv.slice(2);
const account = {
  host,
  port: Number(port),
  user,
  password,
  database: "shop",
  charset: "utf8mb4_general_ci",
  supportBigNumbers: true,
  bigNumberStrings: true,
};
const CONNECTIONS = 8;
const WORKERS = 16;

const moment = new Date("2026-11-23T04:05:06.789Z");
const rows = [
  [null, null, null, null, null, null],
  [7, "1234567890123", 2.5, "Größe 東京 🚀 ' \" \\ %", Buffer.from([0, 1, 255, 39, 92]), moment],
  [-1, "-9223372036854775808", -0.125, "", Buffer.alloc(0), null],
  [2147483647, "9223372036854775807", 1e100, "x".repeat(150), Buffer.alloc(3000, 7), moment],
  // As long as no single segment.
  [0, "0", 0, null, Buffer.alloc(200_000, 254), moment],
];

async function main() {
  for (let number = 0; number < Number(logins); number += 1) {
    // The last of them compresses.
    const compress = number + 1 === Number(logins);
    const connection = await mysql.createConnection({ ...account, compress });
    const table = `mysql2_${number}`;
    for (const say of ["query", "execute"]) {
      await types(connection, table, say);
      await errors(connection, table, say);
    }
    await transactions(connection, table);
    await many(connection, table);
    await anew(connection, table);
    await connection.end();
  }
  await pool();
}

/** Every type there and back; numbers of 64 bits are texts. */
async function types(connection, table, say) {
  for (const values of rows) {
    const [told] = await connection[say](
      `insert into ${table} (n, big, ratio, word, raw, moment) values (?, ?, ?, ?, ?, ?)`,
      values,
    );
    assert.strictEqual(told.affectedRows, 1);
    const [got] = await connection[say](
      { sql: `select n, big, ratio, word, raw, moment from ${table} where id = ?`, rowsAsArray: true },
      [told.insertId],
    );
    assert.deepStrictEqual(got, [values]);
  }
  await connection[say](`update ${table} set ratio = ? where word is null`, [0.1]);
  const [gone] = await connection[say](`delete from ${table} where n = ? and big = ?`, [0, "0"]);
  assert.strictEqual(gone.affectedRows, 1);
}

/** A client goes on after errors. */
async function errors(connection, table, say) {
  const wrong = [
    [`insert into ${table} (id, word) values (?, ?)`, [1, "twice"], 1062],
    ["select * from no_such_table where id = ?", [1], 1146],
    ["select from ?", [1], 1064],
  ];
  for (const [statement, values, code] of wrong) {
    await assert.rejects(connection[say](statement, values), { errno: code });
  }
}

async function transactions(connection, table) {
  await connection.beginTransaction();
  await connection.execute(`insert into ${table} (word) values (?)`, ["kept"]);
  await connection.query(`update ${table} set n = 1 where word = 'kept'`);
  await connection.commit();
  await connection.beginTransaction();
  await connection.execute(`insert into ${table} (word) values (?)`, ["given up"]);
  await connection.execute(`delete from ${table} where word = ?`, ["kept"]);
  await connection.rollback();
  const [kept] = await connection.query(`select n from ${table} where word = 'kept'`);
  assert.deepStrictEqual(kept.map((row) => row.n), [1]);
}

/** Many statements at once: said ahead of the answers, kept, closed and prepared again. */
async function many(connection, table) {
  const asked = [];
  for (let number = 0; number < 60; number += 1) {
    asked.push(connection.execute(`select ${number % 20} + ? as sum from ${table} limit 1`, [number]));
  }
  const answers = await Promise.all(asked);
  answers.forEach(([got], number) => assert.strictEqual(Number(got[0].sum), (number % 20) + number));
  const statement = await connection.prepare(`insert into ${table} (n, word) values (?, ?)`);
  for (const values of [[1, "one"], [2, null], [null, "three"], ["4", "four"]]) {
    await statement.execute(values);
  }
  await statement.close();
  connection.unprepare(`select 1 + ? as sum from ${table} limit 1`);
  const [again] = await connection.execute(`select 1 + ? as sum from ${table} limit 1`, [1]);
  assert.strictEqual(Number(again[0].sum), 2);
}

/** The session begins anew; its statements are gone. */
async function anew(connection, table) {
  await connection.query("set @step = 3");
  const forgotten = await connection.prepare(`select ? from ${table}`);
  await connection.changeUser({ user, password, database: "shop" });
  const [[step]] = await connection.query("select @step as step");
  assert.strictEqual(step.step, null);
  await assert.rejects(forgotten.execute([1]), { errno: 1243 });
  await connection.ping();
  await connection.query("call add_one(1)");
  await connection.execute(`insert into ${table} (word) values (?)`, ["changed"]);
}

/** Workers who share connections, and use them so many times each. */
async function pool() {
  const shared = mysql.createPool({ ...account, connectionLimit: CONNECTIONS });
  const tables = new Map();
  async function visit(worker, turn) {
    const connection = await shared.getConnection();
    const own = connection.connection;
    if (!tables.has(own)) tables.set(own, `mysql2_pool_${tables.size}`);
    const table = tables.get(own);
    await connection.ping();
    if (turn % 10 === 9) await connection.changeUser({ user, password, database: "shop" });
    await connection.beginTransaction();
    const [told] = await connection.execute(`insert into ${table} (n, word) values (?, ?)`, [worker, `${turn}`]);
    const [found] = await connection.query(`select word from ${table} where id = ${told.insertId}`);
    assert.strictEqual(found[0].word, `${turn}`);
    await connection.execute(`update ${table} set ratio = ? where id = ?`, [turn / 4, told.insertId]);
    if (turn % 4 === 0) await connection.query(`delete from ${table} where id = ?`, [told.insertId]);
    await (turn % 7 === 0 ? connection.rollback() : connection.commit());
    connection.release();
  }
  async function work(worker) {
    for (let turn = 0; turn < Number(visits); turn += 1) await visit(worker, turn);
  }
  await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
  await shared.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
