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
	"dollars": dollars,
	"date":    func(t time.Time) string { return t.Format("2 January 2006") },
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
	mux.HandleFunc("GET /p/session/{id}", s.showPortal)
	mux.HandleFunc("POST /p/session/{id}/confirm", s.postConfirm)
	mux.HandleFunc("POST /p/session/{id}/change", s.postChange)
	mux.HandleFunc("POST /p/session/{id}/cancel", s.postCancel)
	mux.HandleFunc("POST /p/session/{id}/resume", s.postResume)
}

type checkoutView struct {
	ID, Product, CancelURL string
	Total                  int64
	Quantity               int64
	AskEmail               bool
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
			Quantity: cs.Quantity, AskEmail: cs.Customer == nil && cs.Email == "",
		}
		return nil
	})
	return view, err
}

func (s *Sim) postComplete(w http.ResponseWriter, r *http.Request) {
	next, err := s.complete(r.PathValue("id"), strings.ToValidUTF8(r.PostFormValue("email"), "\uFFFD"))
	if err != nil {
		showError(w, err)
		return
	}
	redirect(w, next)
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
	Others     []priceView
}

type portalView struct {
	ID, Kind, ReturnURL string
	Done                bool
	Subscriptions       []subscriptionView
	Target              priceView
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
			s.viewFlow(ps.Flow, &view)
			return nil
		}
		for _, sub := range s.subscriptions.items {
			if sub.Customer == ps.Customer.ID {
				view.Subscriptions = append(view.Subscriptions, s.viewSubscription(sub))
			}
		}
		return nil
	})
	return view, err
}

func (s *Sim) viewFlow(f *portalFlow, view *portalView) {
	view.Kind, view.Done = f.Kind, f.Done
	if f.Subscription != nil {
		view.Subscriptions = []subscriptionView{s.viewSubscription(f.Subscription)}
	}
	if f.Price != nil {
		view.Target = viewPrice(f.Price)
	}
}

// viewSubscription offers the prices of the catalogue. One without a lookup key
// was replaced and is kept only for those who have it.
func (s *Sim) viewSubscription(sub *subscription) subscriptionView {
	v := subscriptionView{
		ID: sub.ID, Status: sub.Status, Price: viewPrice(sub.Price), PeriodEnd: sub.PeriodEnd,
		Ending: sub.CancelAtPeriodEnd, Over: sub.over(),
	}
	for _, p := range s.prices.items {
		if p != sub.Price && p.LookupKey != "" && !p.Archived && p.Months == sub.Price.Months {
			v.Others = append(v.Others, viewPrice(p))
		}
	}
	return v
}

func viewPrice(p *price) priceView {
	return priceView{ID: p.ID, Product: p.Product.Name, Amount: p.UnitAmount}
}

func (s *Sim) postConfirm(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	next, err := s.confirmFlow(id)
	if err != nil {
		showError(w, err)
		return
	}
	redirect(w, firstOf(next, "/p/session/"+id))
}

func (s *Sim) postChange(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(sub *subscription) error {
		to, ok := s.prices.get(r.PostFormValue("price"))
		if !ok {
			return &pageError{http.StatusNotFound, "There is no such price."}
		}
		return s.changePlan(sub, to, sub.Quantity)
	})
}

func (s *Sim) postCancel(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(sub *subscription) error {
		s.cancelByHand(sub, r.PostFormValue("when") != "now")
		return nil
	})
}

func (s *Sim) postResume(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(sub *subscription) error {
		s.setCancelAtPeriodEnd(sub, false)
		return nil
	})
}

func (s *Sim) act(w http.ResponseWriter, r *http.Request, change func(*subscription) error) {
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
