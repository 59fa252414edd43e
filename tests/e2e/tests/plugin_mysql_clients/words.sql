-- What a person or a script says through a command line; TABLE is one of its own, which exists and is
-- empty. Errors are part of it: the client goes on.
use shop;
insert into TABLE (n, big, ratio, word, raw, moment) values
    (null, null, null, null, null, null),
    (7, 1234567890123, 2.5, 'Größe 東京 🚀', x'000102ff', '2026-11-23 04:05:06.789'),
    (-1, -9223372036854775808, -0.125, '', '', '1970-01-01');
select * from TABLE order by id;
start transaction;
insert into TABLE (word, raw) values ('long', repeat('ab', 100000));
update TABLE set n = 1 where word = 'long';
commit;
begin;
delete from TABLE;
rollback;
insert into TABLE (id, word) values (1, 'twice');
select * from no_such_table;
select from nothing;
set @id = 2;
prepare by_text from 'select n, word from TABLE where id = ?';
execute by_text using @id;
execute by_text using @id;
deallocate prepare by_text;
call add_one(41);
replace into TABLE (id, word) values (3, 'replaced');
with recursive numbers as (select 1 as n union all select n + 1 from numbers where n < 900)
    select n, repeat('y', n) from numbers;
delete from TABLE where id = 1;
select count(*), sum(length(raw)) from TABLE;
