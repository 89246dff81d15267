package stripesim

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// control are the simulator's own endpoints, for tests in other languages and for
// people. They take and answer JSON and ask for no credential, like the pages.
func (s *Sim) mountControl(mux *http.ServeMux) {
	for pattern, do := range map[string]func(*controlCall) (any, error){
		"GET /sim/time":                     func(*controlCall) (any, error) { return object{"now": s.Now()}, nil },
		"POST /sim/advance":                 s.controlAdvance,
		"POST /sim/customers/{id}/card":     s.controlCard,
		"POST /sim/dunning":                 s.controlDunning,
		"POST /sim/checkouts/{id}/complete": s.controlComplete,
		"POST /sim/refunds":                 s.controlRefund,
		"POST /sim/disputes":                s.controlDispute,
		"POST /sim/disputes/{id}/close":     s.controlClose,
		"GET /sim/faults":                   func(*controlCall) (any, error) { return object{"faults": s.Faults()}, nil },
		"POST /sim/faults":                  s.controlFault,
		"DELETE /sim/faults":                func(*controlCall) (any, error) { s.ClearFaults(); return object{}, nil },
		"POST /sim/deliveries/hold":         func(*controlCall) (any, error) { s.HoldDeliveries(); return object{}, nil },
		"POST /sim/deliveries/release":      func(*controlCall) (any, error) { s.ReleaseDeliveries(); return object{}, nil },
		"POST /sim/events/{id}/deliver":     func(c *controlCall) (any, error) { return object{}, s.Deliver(c.r.Context(), c.id()) },
		"POST /sim/payload-version":         s.controlVersion,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { answerControl(w, &controlCall{r}, do) })
	}
}

type controlCall struct{ r *http.Request }

func (c *controlCall) id() string { return c.r.PathValue("id") }

// read decodes the body, of which nothing may be unknown.
func (c *controlCall) read(into any) error {
	dec := json.NewDecoder(io.LimitReader(c.r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return errors.New("the body is not what this endpoint takes: " + err.Error())
	}
	return nil
}

func answerControl(w http.ResponseWriter, c *controlCall, do func(*controlCall) (any, error)) {
	w.Header().Set("Content-Type", "application/json")
	out, err := do(c)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		out = object{"error": strings.TrimPrefix(err.Error(), "stripesim: ")}
	}
	_, _ = w.Write(encode(out)) // the client is gone; nothing to do about it
}

func (s *Sim) controlAdvance(c *controlCall) (any, error) {
	var in struct{ By string }
	if err := c.read(&in); err != nil {
		return nil, err
	}
	d, ok := s.stepOf(in.By)
	if !ok {
		return nil, errors.New("by is a duration as in 36h, or 1d or 1mo")
	}
	s.Advance(d)
	return object{"now": s.Now()}, nil
}

func (s *Sim) controlCard(c *controlCall) (any, error) {
	var card Card
	if err := c.read(&card); err != nil {
		return nil, err
	}
	return card, s.SetCard(c.id(), card)
}

func (s *Sim) controlDunning(c *controlCall) (any, error) {
	var in struct {
		Retries []string
		End     string
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	d := Dunning{End: in.End}
	for _, pause := range in.Retries {
		parsed, err := time.ParseDuration(pause)
		if err != nil {
			return nil, err
		}
		d.Retries = append(d.Retries, parsed)
	}
	return in, s.SetDunning(d)
}

func (s *Sim) controlComplete(c *controlCall) (any, error) {
	var card Card
	if err := c.read(&card); err != nil {
		return nil, err
	}
	if card == (Card{}) {
		return object{}, s.CompleteCheckout(c.id())
	}
	return object{}, s.CompleteCheckoutWith(c.id(), card)
}

func (s *Sim) controlRefund(c *controlCall) (any, error) {
	var in struct {
		Of     string
		Amount int64
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	id, err := s.Refund(in.Of, in.Amount)
	return object{"id": id}, err
}

func (s *Sim) controlDispute(c *controlCall) (any, error) {
	var in struct{ Of string }
	if err := c.read(&in); err != nil {
		return nil, err
	}
	id, err := s.OpenDispute(in.Of)
	return object{"id": id}, err
}

func (s *Sim) controlClose(c *controlCall) (any, error) {
	var in struct{ Won bool }
	if err := c.read(&in); err != nil {
		return nil, err
	}
	return in, s.CloseDispute(c.id(), in.Won)
}

func (s *Sim) controlFault(c *controlCall) (any, error) {
	var in struct {
		Kind, Route, Delay string
		Calls, RetryAfter  int
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	f := Fault{Kind: FaultKind(in.Kind), Route: in.Route, Calls: in.Calls, RetryAfter: time.Duration(in.RetryAfter) * time.Second}
	if in.Delay != "" {
		d, err := time.ParseDuration(in.Delay)
		if err != nil {
			return nil, err
		}
		f.Delay = d
	}
	return in, s.AddFault(f)
}

func (s *Sim) controlVersion(c *controlCall) (any, error) {
	var in struct{ Version string }
	if err := c.read(&in); err != nil {
		return nil, err
	}
	return in, s.SetPayloadVersion(in.Version)
}
