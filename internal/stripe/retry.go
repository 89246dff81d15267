package stripe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// retrying is the way to Stripe. It tries again where that may help, up to retries times and never beyond the request's
// context. stripe-go would do so too, but sleeps through the context's end, and gives up on 429.
type retrying struct{ next http.RoundTripper }

// RoundTrip makes a request. The answer has been read whole.
func (r retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close() //nolint:errcheck // each try reads a copy of its own
	}
	for n := range retries {
		res, err := r.try(req)
		wait := backoff << n
		switch {
		case err != nil && req.Context().Err() != nil, err == nil && !another(res):
			return res, err
		case err == nil:
			wait = max(wait, retryAfter(res.Header))
		}
		if wait > longestWait || !sleep(req.Context(), wait) {
			return res, err
		}
	}
	return r.try(req)
}

func (r retrying) try(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), tryTimeout)
	defer cancel()
	once := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		once.Body = body
	}
	res, err := r.next.RoundTrip(once)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// another reports whether a request with this answer is worth another try. Where Stripe says so itself, that counts.
func another(res *http.Response) bool {
	switch res.Header.Get("Stripe-Should-Retry") {
	case "true":
		return true
	case "false":
		return false
	}
	return passing(res.StatusCode)
}

// passing reports whether a status says nothing about the request, so that it may be another the next time.
func passing(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusConflict
}

// retryAfter returns how long Stripe asks to wait, 0 if it does not.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// sleep waits, and reports whether the context goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
