package keymeter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer is more than any answer of the API has. It is there for what is not Keymeter.
const maxAnswer = 32 << 20

type request struct {
	method, path string
	query        url.Values
	body         any
	key          string // Idempotency-Key
	idempotent   bool   // by the ids in it
}

// repeatable is whether the request, sent twice, has the effect of one.
func (r request) repeatable() bool {
	return r.method != http.MethodPost || r.key != "" || r.idempotent
}

// call sends a request until it is answered for good, and reads the answer.
func call[T any](ctx context.Context, c *Client, r request) (*T, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return nil, fmt.Errorf("keymeter: %w", err)
		}
	}
	for try := 0; ; try++ {
		answer := new(T)
		err := c.send(ctx, r, body, answer)
		if err == nil {
			return answer, nil
		}
		if try >= c.retries || !r.repeatable() || !transient(err) || ctx.Err() != nil {
			return nil, err
		}
		if err := c.backoff.wait(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// send tries once.
func (c *Client) send(ctx context.Context, r request, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("keymeter: %w", err)
	}
	req.URL.RawQuery = r.query.Encode()
	c.authorize(req.Header)
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("keymeter: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("keymeter: %s %s: the answer broke off: %w", r.method, r.path, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return newError(resp, content)
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if json.Unmarshal(content, answer) != nil {
		return notKeymeter(resp)
	}
	return nil
}

// path fills ids into the path of an operation.
func path(format string, ids ...string) string {
	escaped := make([]any, len(ids))
	for i, id := range ids {
		escaped[i] = url.PathEscape(id)
		if strings.Trim(id, ".") == "" { // which would be another path
			escaped[i] = strings.ReplaceAll(id, ".", "%2E")
		}
	}
	return fmt.Sprintf(format, escaped...)
}

// set adds a parameter to a query, unless it is left out.
func set[T any](query url.Values, name string, value *T) {
	if value == nil {
		return
	}
	if at, ok := any(*value).(time.Time); ok {
		query.Set(name, at.Format(time.RFC3339Nano))
		return
	}
	query.Set(name, fmt.Sprint(*value))
}
