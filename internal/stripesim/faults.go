package stripesim

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FaultKind is a way in which things go wrong.
type FaultKind string

// Faults of requests.
const (
	// Delay answers late, and otherwise as always.
	Delay FaultKind = "delay"
	// TooManyRequests answers 429 and does nothing.
	TooManyRequests FaultKind = "too_many_requests"
	// ServerError answers 500 and does nothing. Under an idempotency key it is
	// answered again, as by Stripe: such a request had begun.
	ServerError FaultKind = "server_error"
	// Unavailable answers 503 and does nothing.
	Unavailable FaultKind = "unavailable"
	// ResetBefore drops the connection and does nothing. Beware of a client that
	// sends again by itself, as Go's does on a reused connection if the request
	// carries an idempotency key.
	ResetBefore FaultKind = "reset_before"
	// ResetAfter does what was asked and drops the connection: the answer is lost.
	ResetAfter FaultKind = "reset_after"
)

// Faults of webhooks.
const (
	// DuplicateWebhook delivers an event twice.
	DuplicateWebhook FaultKind = "duplicate_webhook"
	// DropWebhook never delivers an event; it counts as given up.
	DropWebhook FaultKind = "drop_webhook"
	// DelayWebhook delivers an event later, behind what comes meanwhile.
	DelayWebhook FaultKind = "delay_webhook"
	// ReorderWebhook is a DelayWebhook that lets the next ones pass: of a second, if
	// it does not say.
	ReorderWebhook FaultKind = "reorder_webhook"
)

// Fault makes requests or webhooks go wrong.
type Fault struct {
	Kind FaultKind
	// Route says which: a request as in "POST /v1/invoices/*" or "/v1/prices", an
	// event's type as in "invoice.*". A * at the end stands for anything; empty is
	// all.
	Route string
	// Calls is how many go wrong; 0 is all until ClearFaults.
	Calls int
	// Delay comes first, whatever the kind. It is real time.
	Delay time.Duration
	// RetryAfter is for TooManyRequests and Unavailable; 0 is one second.
	RetryAfter time.Duration
}

func requestFaults() []FaultKind {
	return []FaultKind{Delay, TooManyRequests, ServerError, Unavailable, ResetBefore, ResetAfter}
}

func webhookFaults() []FaultKind {
	return []FaultKind{DuplicateWebhook, DropWebhook, DelayWebhook, ReorderWebhook}
}

// AddFault adds a fault behind those that are there: of several that fit, the
// first is taken. Faults are not kept in the StateFile.
func (s *Sim) AddFault(f Fault) error {
	if !slices.Contains(append(requestFaults(), webhookFaults()...), f.Kind) {
		return &pageError{http.StatusBadRequest, "There is no fault " + string(f.Kind) + "."}
	}
	if f.Calls < 0 || f.Delay < 0 || f.RetryAfter < 0 {
		return &pageError{http.StatusBadRequest, "A fault has no negative numbers."}
	}
	if f.Kind == ReorderWebhook && f.Delay == 0 {
		f.Delay = time.Second
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
	return nil
}

// ClearFaults removes all faults.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Faults returns the faults that are left.
func (s *Sim) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// takeFault finds the fault for a subject and counts it. The caller holds mu.
func (s *Sim) takeFault(subject string, kinds func() []FaultKind) (Fault, bool) {
	i := slices.IndexFunc(s.faults, func(f Fault) bool {
		_, path, _ := strings.Cut(subject, " ")
		return slices.Contains(kinds(), f.Kind) &&
			(f.Route == "" || matches(f.Route, subject) || matches(f.Route, path))
	})
	if i < 0 {
		return Fault{}, false
	}
	f := s.faults[i]
	if f.Calls == 1 {
		s.faults = slices.Delete(s.faults, i, i+1)
	} else if f.Calls > 1 {
		s.faults[i].Calls--
	}
	return f, true
}

// matches compares with a pattern that may end in *.
func matches(pattern, subject string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(subject, prefix)
	}
	return pattern == subject
}

func (s *Sim) requestFault(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, _ := s.takeFault(r.Method+" "+r.URL.Path, requestFaults)
	return f
}

// disrupt serves a request as its fault has it.
func (s *Sim) disrupt(f Fault, rt route, r *http.Request, c *call, h http.Header) answer {
	if !pause(r, f.Delay) {
		panic(http.ErrAbortHandler) // nobody waits any more
	}
	retryAfter := strconv.Itoa(max(1, int(f.RetryAfter/time.Second)))
	switch f.Kind {
	case TooManyRequests:
		h.Set("Retry-After", retryAfter)
		return answerError(&apiError{
			status: http.StatusTooManyRequests, kind: "invalid_request_error", code: "rate_limit",
			message: "Too many requests hit the API too quickly. We recommend an exponential backoff of your requests.",
		})
	case Unavailable:
		h.Set("Retry-After", retryAfter)
		return answerError(&apiError{status: http.StatusServiceUnavailable, kind: "api_error", message: "The service is unavailable."})
	case ServerError:
		return s.serve(route{run: broken, takes: rt.takes}, r, c, h)
	case ResetBefore:
		panic(http.ErrAbortHandler)
	case ResetAfter:
		s.serve(rt, r, c, h)
		panic(http.ErrAbortHandler)
	default:
		return s.serve(rt, r, c, h)
	}
}

func broken(*call) (object, *apiError) {
	return nil, &apiError{status: http.StatusInternalServerError, kind: "api_error", message: "An unknown error occurred."}
}

// pause waits and says whether the client waited, too.
func pause(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
