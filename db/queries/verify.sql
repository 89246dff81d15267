-- name: LedgerDifferences :many
-- Recomputes what the ledger says of itself from its entries, and finds what does not add up.
(
    SELECT 'balances are the sums of events'::text AS rule, (b.account_id)::text AS account_id, ('period ' || b.period)::text AS found
    FROM balances b LEFT JOIN LATERAL (
        SELECT coalesce(sum(credits) FILTER (WHERE category = 'tts'), 0) AS tts,
               coalesce(sum(credits) FILTER (WHERE category = 'stt'), 0) AS stt,
               coalesce(sum(credits) FILTER (WHERE category = 'llm'), 0) AS llm,
               coalesce(sum(credits) FILTER (WHERE category = 'rag'), 0) AS rag,
               count(*) FILTER (WHERE reverses IS NULL) AS requests
        FROM usage_events e WHERE e.account_id = b.account_id AND e.period = b.period) e ON true
    WHERE (b.tts, b.stt, b.llm, b.rag, b.requests) IS DISTINCT FROM (e.tts, e.stt, e.llm, e.rag, e.requests)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'events have a balance'::text AS rule, (e.account_id)::text AS account_id, ('event ' || e.id)::text AS found
    FROM usage_events e
    WHERE NOT EXISTS (SELECT FROM balances b WHERE b.account_id = e.account_id AND b.period = e.period)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'granted is what the grants leave'::text AS rule, (b.account_id)::text AS account_id, (b.granted || ' granted, ' || g.credits || ' left')::text AS found
    FROM balances b JOIN LATERAL (
        SELECT coalesce((SELECT sum(amount) FROM credit_grants g WHERE g.account_id = b.account_id), 0)
             - coalesce((SELECT sum(u.credits) FROM credit_burns u WHERE u.account_id = b.account_id), 0)
             - coalesce((SELECT sum(l.amount) FROM credit_losses l WHERE l.account_id = b.account_id), 0) AS credits) g ON true
    WHERE NOT b.closed AND b.granted <> g.credits
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'no grant is used beyond its amount'::text AS rule, (g.account_id)::text AS account_id, ('grant ' || g.id)::text AS found
    FROM credit_grants g
    LEFT JOIN (SELECT grant_id, sum(credits) AS credits FROM credit_burns GROUP BY 1) u ON u.grant_id = g.id
    LEFT JOIN (SELECT grant_id, sum(amount) AS amount FROM credit_losses GROUP BY 1) l ON l.grant_id = g.id
    WHERE coalesce(u.credits, 0) + coalesce(l.amount, 0) > g.amount
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'what closed periods used is burns and overage'::text AS rule, (b.account_id)::text AS account_id, ('period ' || b.period)::text AS found
    FROM balances b
    LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM credit_burns GROUP BY 1, 2) u
        ON (u.account_id, u.period) = (b.account_id, b.period)
    LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM overages GROUP BY 1, 2) o
        ON (o.account_id, o.period) = (b.account_id, b.period)
    WHERE b.closed
      AND greatest(b.tts + b.stt + b.llm + b.rag, b.overage) <> coalesce(u.credits, 0) + coalesce(o.credits, 0)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'overage of open periods is in the ledger'::text AS rule, (b.account_id)::text AS account_id, ('period ' || b.period)::text AS found
    FROM balances b
    LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM overages GROUP BY 1, 2) o
        ON (o.account_id, o.period) = (b.account_id, b.period)
    WHERE NOT b.closed AND b.overage <> coalesce(o.credits, 0)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'held is the sum of reservations that hold'::text AS rule, (b.account_id)::text AS account_id, ('period ' || b.period)::text AS found
    FROM balances b LEFT JOIN (
        SELECT account_id, period, sum(held) AS held FROM reservations WHERE state = 'held' GROUP BY 1, 2) r
        ON (r.account_id, r.period) = (b.account_id, b.period)
    WHERE b.held <> coalesce(r.held, 0)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'totals are the sums of events'::text AS rule, (coalesce(t.account_id, e.account_id))::text AS account_id, ('hour ' || coalesce(t.hour, e.hour))::text AS found
    FROM usage_totals t FULL JOIN (
        SELECT account_id, date_trunc('hour', occurred_at, 'UTC') AS hour, coalesce(key_id, '') AS key_id, category,
               sum(credits) AS credits, count(*) FILTER (WHERE reverses IS NULL) AS requests
        FROM usage_events GROUP BY 1, 2, 3, 4) e
        ON t.account_id = e.account_id AND t.hour = e.hour AND t.key_id = e.key_id AND t.category = e.category
    WHERE (t.credits, t.requests) IS DISTINCT FROM (e.credits, e.requests)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'hours are the sums of totals'::text AS rule, (coalesce(h.account_id, t.account_id))::text AS account_id, ('hour ' || coalesce(h.hour, t.hour))::text AS found
    FROM usage_hours h FULL JOIN (
        SELECT account_id, hour, category, sum(credits) AS credits, sum(requests) AS requests
        FROM usage_totals GROUP BY 1, 2, 3) t
        ON h.account_id = t.account_id AND h.hour = t.hour AND h.category = t.category
    WHERE (h.credits, h.requests) IS DISTINCT FROM (t.credits, t.requests)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'budgets are the sums of events of families'::text AS rule, (coalesce(b.account_id, e.account_id))::text AS account_id, ('family ' || coalesce(b.family, e.family))::text AS found
    FROM key_budgets b FULL JOIN (
        SELECT v.account_id, k.family, v.period, sum(v.credits) AS credits
        FROM usage_events v JOIN api_keys k ON k.id = v.key_id GROUP BY 1, 2, 3) e
        ON b.account_id = e.account_id AND b.family = e.family AND b.period = e.period
    WHERE coalesce(b.used, 0) <> coalesce(e.credits, 0)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'budgets hold what reservations hold'::text AS rule, (coalesce(b.account_id, r.account_id))::text AS account_id, ('family ' || coalesce(b.family, r.family))::text AS found
    FROM key_budgets b FULL JOIN (
        SELECT account_id, family, period, sum(held) AS held FROM reservations
        WHERE state = 'held' AND family IS NOT NULL GROUP BY 1, 2, 3) r
        ON b.account_id = r.account_id AND b.family = r.family AND b.period = r.period
    WHERE coalesce(b.held, 0) <> coalesce(r.held, 0)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'settled reservations are events'::text AS rule, (r.account_id)::text AS account_id, ('reservation ' || r.id)::text AS found
    FROM reservations r LEFT JOIN usage_events e ON e.account_id = r.account_id AND e.id = r.event_id
    WHERE (r.state = 'settled') <> (e.id IS NOT NULL)
       OR (e.credits, e.uncollected) IS DISTINCT FROM (r.credits, coalesce(r.uncollected, e.uncollected))
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'late events are those from before the period'::text AS rule, (e.account_id)::text AS account_id, ('event ' || e.id)::text AS found
    FROM usage_events e JOIN balances b ON (b.account_id, b.period) = (e.account_id, e.period)
    WHERE e.late <> (e.occurred_at < b.starts_at)
    LIMIT sqlc.arg(max_rows)
)
UNION ALL (
    SELECT 'reversals give back what they reverse'::text AS rule, (r.account_id)::text AS account_id, ('event ' || r.id)::text AS found
    FROM usage_events r
    LEFT JOIN usage_events e ON e.account_id = r.account_id AND e.id = r.reverses
    LEFT JOIN credit_grants g ON g.account_id = r.account_id AND g.source = r.id AND g.period = r.period
    WHERE r.reverses IS NOT NULL AND (e.credits + r.credits - coalesce(g.amount, 0)) IS DISTINCT FROM 0
    LIMIT sqlc.arg(max_rows)
);
