package stripesim

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed pages.html
var pagesFS embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"dollars":  dollars,
	"date":     func(t time.Time) string { return t.Format("2 January 2006") },
	"instant":  func(t time.Time) string { return t.Format("2 January 2006, 15:04:05 UTC") },
	"cardName": func(c CardOutcome) string { return strings.ReplaceAll(string(c), "_", " ") },
}).ParseFS(pagesFS, "pages.html"))

// pageError is a refusal shown to a person.
type pageError struct {
	status  int
	message string
}

func (e *pageError) Error() string { return "stripesim: " + e.message }

func (s *Sim) mountPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /c/pay/{id}", s.showCheckout)
	mux.HandleFunc("POST /c/pay/{id}/complete", s.postComplete)
	mux.HandleFunc("GET /{$}", s.showHome)
	mux.HandleFunc("POST /advance", s.postAdvance)
	mux.HandleFunc("GET /p/session/{id}", s.showPortal)
	mux.HandleFunc("POST /p/session/{id}/confirm", s.postConfirm)
	mux.HandleFunc("POST /p/session/{id}/change", s.postChange)
	mux.HandleFunc("POST /p/session/{id}/cancel", s.postCancel)
	mux.HandleFunc("POST /p/session/{id}/resume", s.postResume)
	mux.HandleFunc("POST /p/session/{id}/keep", s.postKeep)
}

type checkoutView struct {
	ID, Product, CancelURL string
	Total                  int64
	Quantity               int64
	AskEmail               bool
	Once                   bool
	TrialDays              int64
	Cards                  []CardOutcome
	Problem                string // what became of the last attempt
}

func (s *Sim) showCheckout(w http.ResponseWriter, r *http.Request) {
	view, err := s.viewCheckout(r.PathValue("id"))
	if err != nil {
		showError(w, err)
		return
	}
	show(w, http.StatusOK, "checkout", view)
}

func (s *Sim) viewCheckout(id string) (view checkoutView, err error) {
	err = s.change(func() error {
		cs, ok := s.sessions.get(id)
		switch {
		case !ok:
			return &pageError{http.StatusNotFound, "There is no such checkout session."}
		case cs.Status != sessionOpen:
			return &pageError{http.StatusGone, "This checkout session is over."}
		}
		view = checkoutView{
			ID: cs.ID, Product: cs.Price.Product.Name, CancelURL: cs.CancelURL, Total: cs.total(),
			Quantity: cs.Quantity, AskEmail: cs.Customer == nil && cs.Email == "", Once: cs.Mode == modePayment,
			TrialDays: cs.TrialDays, Cards: pageCards(),
		}
		return nil
	})
	return view, err
}

func (s *Sim) postComplete(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	next, err := s.complete(id, strings.ToValidUTF8(r.PostFormValue("email"), "\uFFFD"), cardOf(r))
	var refused *pageError
	switch {
	case err == nil:
		redirect(w, next)
	case errors.As(err, &refused) && refused.status == http.StatusPaymentRequired:
		s.showDecline(w, id, refused)
	default:
		showError(w, err)
	}
}

// showDecline stays on the page, for another card.
func (s *Sim) showDecline(w http.ResponseWriter, id string, refused *pageError) {
	view, err := s.viewCheckout(id)
	if err != nil {
		showError(w, err)
		return
	}
	view.Problem = refused.message
	show(w, refused.status, "checkout", view)
}

type priceView struct {
	ID, Product string
	Amount      int64
}

type subscriptionView struct {
	ID, Status string
	Price      priceView
	PeriodEnd  time.Time
	Ending     bool
	Over       bool
	Next       *priceView // scheduled for the end of the period
	Others     []priceView
}

type portalView struct {
	ID, Kind, ReturnURL string
	Done                bool
	Subscriptions       []subscriptionView
	Target              priceView
	Later               bool          // the change waits for the end of the period
	Cards               []CardOutcome // to choose from, where that is the question
}

func (s *Sim) showPortal(w http.ResponseWriter, r *http.Request) {
	view, err := s.viewPortal(r.PathValue("id"))
	switch {
	case err != nil:
		showError(w, err)
	case view.Kind != "":
		show(w, http.StatusOK, "flow", view)
	default:
		show(w, http.StatusOK, "portal", view)
	}
}

func (s *Sim) viewPortal(id string) (view portalView, err error) {
	err = s.change(func() error {
		ps, ok := s.portals.get(id)
		if !ok {
			return &pageError{http.StatusNotFound, "There is no such portal session."}
		}
		view = portalView{ID: ps.ID, ReturnURL: ps.ReturnURL}
		if ps.Flow != nil {
			s.viewFlow(ps, &view)
			return nil
		}
		for _, sub := range s.subscriptions.items {
			if sub.Customer == ps.Customer.ID {
				view.Subscriptions = append(view.Subscriptions, s.viewSubscription(sub, ps))
			}
		}
		return nil
	})
	return view, err
}

func (s *Sim) viewFlow(ps *portalSession, view *portalView) {
	f := ps.Flow
	view.Kind, view.Done = f.Kind, f.Done
	if f.Kind == flowPayment {
		view.Cards = pageCards()
	}
	if f.Subscription != nil {
		view.Subscriptions = []subscriptionView{s.viewSubscription(f.Subscription, ps)}
	}
	if f.Price != nil {
		config, _ := s.configs.get(ps.Config)
		view.Target, view.Later = viewPrice(f.Price), config.putsOff(f.Subscription, f.Price, f.Quantity)
	}
}

// viewSubscription offers the prices of the catalogue. One without a lookup key
// was replaced and is kept only for those who have it.
func (s *Sim) viewSubscription(sub *subscription, ps *portalSession) subscriptionView {
	v := subscriptionView{
		ID: sub.ID, Status: sub.Status, Price: viewPrice(sub.Price), PeriodEnd: sub.PeriodEnd,
		Ending: sub.CancelAtPeriodEnd, Over: sub.over(), Next: s.viewNext(sub),
	}
	config, _ := s.configs.get(ps.Config)
	for _, p := range s.prices.items {
		if p != sub.Price && config.offers(p) && p.LookupKey != "" && !p.Archived && p.Months == sub.Price.Months {
			v.Others = append(v.Others, viewPrice(p))
		}
	}
	return v
}

// viewNext is what a subscription is scheduled to change to.
func (s *Sim) viewNext(sub *subscription) *priceView {
	sc := s.scheduleOf(sub)
	if sc == nil {
		return nil
	}
	to := viewPrice(sc.next().Price)
	return &to
}

func viewPrice(p *price) priceView {
	return priceView{ID: p.ID, Product: p.Product.Name, Amount: p.UnitAmount}
}

func (s *Sim) postConfirm(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	next, err := s.confirmFlow(id, cardOf(r))
	if err != nil {
		showError(w, err)
		return
	}
	redirect(w, firstOf(next, "/p/session/"+id))
}

func (s *Sim) postChange(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ps *portalSession, sub *subscription) error {
		to, ok := s.prices.get(r.PostFormValue("price"))
		if !ok {
			return &pageError{http.StatusNotFound, "There is no such price."}
		}
		return s.changePlan(ps, sub, to, sub.Quantity)
	})
}

func (s *Sim) postCancel(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(_ *portalSession, sub *subscription) error {
		atPeriodEnd := r.PostFormValue("when") != "now"
		if err := free(sub); err != nil && atPeriodEnd {
			return err
		}
		s.cancelByHand(sub, atPeriodEnd)
		return nil
	})
}

func (s *Sim) postResume(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(_ *portalSession, sub *subscription) error {
		if err := free(sub); err != nil {
			return err
		}
		s.setCancelAtPeriodEnd(sub, false)
		return nil
	})
}

// postKeep takes the scheduled change back.
func (s *Sim) postKeep(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(_ *portalSession, sub *subscription) error {
		s.unschedule(cause{}, sub)
		return nil
	})
}

func (s *Sim) act(w http.ResponseWriter, r *http.Request, change func(*portalSession, *subscription) error) {
	id, sub := r.PathValue("id"), r.PostFormValue("subscription")
	if err := s.portalAction(id, sub, change); err != nil {
		showError(w, err)
		return
	}
	redirect(w, "/p/session/"+id)
}

// redirect is http.Redirect without its rewriting of relative paths: the target
// was checked when the session was made.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func showError(w http.ResponseWriter, err error) {
	var refused *pageError
	if !errors.As(err, &refused) {
		refused = &pageError{http.StatusInternalServerError, "Something went wrong."}
	}
	show(w, refused.status, "error", refused.message)
}

func show(w http.ResponseWriter, status int, name string, view any) {
	var buf bytes.Buffer
	if err := pages.ExecuteTemplate(&buf, name, view); err != nil {
		http.Error(w, "page template failed", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}
