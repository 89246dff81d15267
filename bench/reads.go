package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"
)

const (
	readRate    = 20 // requests a second of each route
	readSeconds = 5
	readTarget  = "p95 < 50 ms"
)

// read is a route with its parameters, as the owner of a key calls it.
type read struct {
	name, path string
	token      func(n int) string
}

// reads measures each way to read, at a constant rate, one after the other.
func (b *bench) reads(ctx context.Context) error {
	for _, r := range readRoutes(time.Now()) {
		of := func(n int) []byte { return get(r.path, r.token(n)) }
		if _, err := open(ctx, b.server.addr, readRate, time.Second, of); err != nil { // plans and connections
			return fmt.Errorf("%s: %w", r.name, err)
		}
		got, err := open(ctx, b.server.addr, readRate, readSeconds*time.Second, of)
		if err != nil || got.failed > 0 {
			return fmt.Errorf("%s: %d answers were wrong: %w", r.name, got.failed, err)
		}
		b.row("| read: %s | p50 %.1f ms, p95 %.1f ms, p99 %.1f ms | | | %s |", r.name, ms(got.p50), ms(got.p95), ms(got.p99), readTarget)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// readRoutes are every list, sum and series, with the combinations of their filters: of the big account, whose filters
// match much, little and nothing, and of all the others.
func readRoutes(now time.Time) []read {
	ago := func(days int) string {
		return now.Add(-time.Duration(days) * 24 * time.Hour).UTC().Format(time.RFC3339)
	}
	busy, rare, idle := keyID(scaleKeys-bigKeys), keyID(scaleKeys-bigKeys/2), keyID(scaleKeys-1)
	routes := []read{
		{"keys of any account", "/v1/keys?limit=100", anyOwner},
		{"keys of the big account", "/v1/keys?limit=100", bigOwner},
		{"keys, deep in the list", "/v1/keys?limit=100&cursor=" + rare, bigOwner},
		{"usage of any account", "/v1/usage", anyOwner},
		{"usage of the big account", "/v1/usage", bigOwner},
	}
	for _, q := range []string{
		"bucket=day", "bucket=hour", "bucket=hour&groupBy=category", "bucket=day&category=llm", "bucket=day&category=stt",
		"bucket=hour&keyId=" + busy, "bucket=day&groupBy=category_and_key&keyId=" + rare, "bucket=day&keyId=" + idle,
		"bucket=hour&groupBy=key&from=" + now.Add(-2*time.Hour).UTC().Format(time.RFC3339),
	} {
		routes = append(routes, read{"time series, big account, " + short(q), "/v1/usage/timeseries?" + q, bigOwner})
	}
	routes = append(routes,
		read{"time series, any account, by category and key", "/v1/usage/timeseries?groupBy=category_and_key", anyOwner})
	for _, q := range eventFilters(busy, rare, idle, ago) {
		routes = append(routes, read{"events, big account, " + short(q), "/v1/usage/events?limit=100&" + q, bigOwner})
	}
	for _, q := range []string{"", "category=stt", "category=llm&to=" + ago(20), "keyId=" + idle} {
		routes = append(routes, read{"events, any account, " + short(q), "/v1/usage/events?limit=100&" + q, anyOwner})
	}
	return routes
}

// eventFilters are all combinations of a key, a category, from, to and a cursor.
func eventFilters(busy, rare, idle string, ago func(days int) string) (queries []string) {
	cursor := placeCursor(time.Now().Add(-12*24*time.Hour), "req_")
	for _, key := range []string{"", "keyId=" + busy, "keyId=" + rare, "keyId=" + idle} {
		for _, category := range []string{"", "category=llm", "category=stt"} {
			for _, from := range []string{"", "from=" + ago(25)} {
				for _, to := range []string{"", "to=" + ago(20)} {
					for _, at := range []string{"", "cursor=" + cursor} {
						queries = append(queries, join(key, category, from, to, at))
					}
				}
			}
		}
	}
	return queries
}

func join(parts ...string) (query string) {
	for _, part := range slices.DeleteFunc(parts, func(p string) bool { return p == "" }) {
		query += "&" + part
	}
	return query[min(1, len(query)):]
}

// short names a query by its parameters and leaves out what is long.
func short(query string) (name string) {
	values, _ := url.ParseQuery(query)
	names := map[string]string{
		keyID(scaleKeys - bigKeys): "busy", keyID(scaleKeys - bigKeys/2): "rare", keyID(scaleKeys - 1): "idle",
	}
	for _, parameter := range []string{"bucket", "groupBy", "keyId", "category", "from", "to", "cursor"} {
		value := values.Get(parameter)
		if known, ok := names[value]; ok {
			value = known
		}
		switch {
		case value == "":
		case len(value) > 16:
			name += " " + parameter
		default:
			name += " " + parameter + "=" + value
		}
	}
	if name == "" {
		return "all"
	}
	return name[1:]
}

func bigOwner(int) string { return rawKey(scaleKeys - bigKeys) }

func anyOwner(n int) string { return rawKey(n * 7919 % (scaleKeys - bigKeys)) }

func get(path, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
}

// walk walks the big account's keys by cursor while keys are created and revoked. Each key that is there all the time must
// come exactly once.
func (b *bench) walk(ctx context.Context) error {
	owner := bigOwner(0)
	stop := make(chan struct{})
	churned := make(chan churn, 1)
	go func() { churned <- b.churn(ctx, owner, stop) }()
	seen, err := b.walkKeys(ctx, owner)
	close(stop)
	c := <-churned
	if err != nil || c.err != nil {
		return fmt.Errorf("walk: %w, churn: %w", err, c.err)
	}
	differences := 0
	for i := scaleKeys - bigKeys; i < scaleKeys; i++ {
		switch n := seen[keyID(i)]; {
		case c.revoked[keyID(i)] && n > 1, !c.revoked[keyID(i)] && n != 1:
			differences++
		}
	}
	b.row("| walk of %d keys while %d were created and %d revoked | %d differences | | | 0 |",
		bigKeys, c.created, len(c.revoked), differences)
	return nil
}

// walkKeys counts how often each key is listed.
func (b *bench) walkKeys(ctx context.Context, owner string) (map[string]int, error) {
	seen := map[string]int{}
	path := "/v1/keys?limit=100"
	for {
		var page struct {
			Data       []struct{ ID string }
			NextCursor *string
		}
		if status, err := b.server.call(ctx, "GET", path, owner, "", &page); err != nil || status != 200 {
			return nil, fmt.Errorf("list: %d %w", status, err)
		}
		for _, key := range page.Data {
			seen[key.ID]++
		}
		if page.NextCursor == nil {
			return seen, nil
		}
		path = "/v1/keys?limit=100&cursor=" + *page.NextCursor
	}
}

// churn is what was created and revoked during a walk.
type churn struct {
	created int
	revoked map[string]bool
	err     error
}

// churn creates keys and revokes others, some of them just listed and some next in line, until it is stopped.
func (b *bench) churn(ctx context.Context, owner string, stop <-chan struct{}) churn {
	c := churn{revoked: map[string]bool{}}
	for i := 1; ; i++ {
		select {
		case <-stop:
			return c
		default:
		}
		status, err := b.server.call(ctx, "POST", "/v1/keys", owner, "", &json.RawMessage{})
		if err != nil || status != 201 {
			c.err = fmt.Errorf("create: %d %w", status, err)
			return c
		}
		c.created++
		id := keyID(scaleKeys - bigKeys + 1 + i*7919%(bigKeys-1))
		if c.revoked[id] {
			continue
		}
		status, err = b.server.call(ctx, "DELETE", "/v1/keys/"+id, owner, "", nil)
		if err != nil || status != 204 {
			c.err = fmt.Errorf("revoke %s: %d %w", id, status, err)
			return c
		}
		c.revoked[id] = true
	}
}

// placeCursor is a cursor in the list of events, as the server makes it.
func placeCursor(at time.Time, id string) string {
	return base64.RawURLEncoding.EncodeToString(append(binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro())), id...))
}
