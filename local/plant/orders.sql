-- The database of the local stack's plant.

create table orders (
  id integer primary key,
  day text not null,
  customer text not null,
  total real not null,
  review integer not null default 0,
  closed integer not null default 0
);

create trigger closed_orders before update on orders when old.closed = 1
begin
  select raise(abort, 'the order is closed');
end;

insert into orders (id, day, customer, total, closed) values
  (1, '2026-11-01', 'Baker & Sons', 120.5, 0),
  (2, '2026-11-01', 'Müller, Söhne', 2400, 0),
  (3, '2026-11-01', 'The "Blue" Mill', 80.25, 0),
  (4, '2026-11-01', 'Ito', 1000, 0),
  (5, '2026-11-01', 'Okafor', 1000.5, 0),
  (6, '2026-11-02', 'Baker & Sons', 60, 0),
  (7, '2026-11-02', 'Ito', 3100, 1);
