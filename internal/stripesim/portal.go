package stripesim

import (
	"net/http"
	"time"
)

const (
	flowUpdate  = "subscription_update_confirm"
	flowCancel  = "subscription_cancel"
	flowPayment = "payment_method_update"
)

type portalSession struct {
	id        string
	url       string
	customer  *customer
	created   time.Time
	returnURL string
	locale    string
	flow      *portalFlow // nil: the whole portal
}

// portalFlow is a portal session narrowed to one question.
type portalFlow struct {
	kind         string
	subscription *subscription
	itemID       string
	price        *price
	quantity     int64
	after        string // after_completion type
	afterURL     string
	done         bool
}

func (s *Sim) createPortal(c *call) (object, *apiError) {
	ps := &portalSession{created: c.now, returnURL: c.webURL("return_url"), locale: c.str("locale")}
	ps.customer, _ = s.customers.get(s.customerParam(c, "customer"))
	if c.has("flow_data") && c.err == nil {
		ps.flow = s.readFlow(c, ps.customer)
	}
	if c.err != nil {
		return nil, c.err
	}
	ps.id = s.ids.next("bps_1", 23)
	ps.url = s.baseURL + "/p/session/" + ps.id
	s.portals.add(ps.id, ps)
	return s.renderPortal(ps), nil
}

func (s *Sim) readFlow(c *call, cust *customer) *portalFlow {
	const after = "flow_data[after_completion]"
	c.must("flow_data[type]")
	f := &portalFlow{kind: c.oneOf("flow_data[type]", flowUpdate, flowCancel, flowPayment, "subscription_update"), after: "portal_homepage"}
	switch f.kind {
	case flowUpdate:
		s.readFlowUpdate(c, cust, f)
	case flowCancel:
		f.subscription = s.flowSubscription(c, cust, "flow_data[subscription_cancel][subscription]")
	case "subscription_update":
		c.fail(notSimulated("flow_data[type]", "the portal flow subscription_update"))
	}
	for _, kind := range []string{flowUpdate, flowCancel} {
		if kind != f.kind && c.has("flow_data["+kind+"]") {
			c.fail(invalid("flow_data["+kind+"]", "flow_data["+kind+"] does not fit flow_data[type] "+f.kind+"."))
		}
	}
	switch v := c.oneOf(after+"[type]", "hosted_confirmation", "portal_homepage", "redirect"); v {
	case "":
	case "redirect":
		c.must(after + "[redirect][return_url]")
		f.after, f.afterURL = v, c.webURL(after+"[redirect][return_url]")
	default:
		f.after = v
	}
	return f
}

func (s *Sim) readFlowUpdate(c *call, cust *customer, f *portalFlow) {
	const confirm = "flow_data[subscription_update_confirm]"
	f.subscription = s.flowSubscription(c, cust, confirm+"[subscription]")
	c.onlyOne(confirm + "[items]")
	f.itemID = c.must(confirm + "[items][0][id]")
	if c.err != nil {
		return
	}
	if f.itemID != f.subscription.itemID {
		c.fail(noSuch("subscription_item", f.itemID, confirm+"[items][0][id]"))
	}
	f.price = f.subscription.price
	if c.has(confirm + "[items][0][price]") {
		f.price = s.priceParam(c, confirm+"[items][0][price]")
	}
	f.quantity = c.integer(confirm+"[items][0][quantity]", f.subscription.quantity, 1, 1_000_000)
}

// flowSubscription reads a subscription that must be this customer's and alive.
func (s *Sim) flowSubscription(c *call, cust *customer, name string) *subscription {
	sub, ok := s.subscriptions.get(c.must(name))
	switch {
	case !ok || sub.customer != cust.id:
		c.fail(noSuch("subscription", c.str(name), name))
	case sub.status == statusCanceled:
		c.fail(invalid(name, "The subscription "+sub.id+" is canceled and cannot be changed in the portal."))
	}
	return sub
}

// portalAction finds the session and the subscription behind a button of the
// whole portal and runs the change.
func (s *Sim) portalAction(sessionID, subID string, change func(*subscription, time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC()
	s.advance(now)
	ps, ok := s.portals.get(sessionID)
	switch {
	case !ok:
		return &pageError{http.StatusNotFound, "There is no portal session " + sessionID + "."}
	case ps.flow != nil:
		return &pageError{http.StatusConflict, "This portal session is for one change only. Confirm it or go back."}
	}
	sub, err := s.living(subID)
	if err != nil {
		return err
	}
	if sub.customer != ps.customer.id {
		return &pageError{http.StatusNotFound, "There is no subscription " + subID + "."}
	}
	return change(sub, now)
}

// changePlan moves a subscription to another price, from now, for the rest of
// the period and without proration.
func (s *Sim) changePlan(sub *subscription, to *price, quantity int64) {
	next := *sub
	next.price, next.quantity = to, quantity
	s.replaceSubscription(cause{}, sub, next)
}

// confirmFlow does what the session asks for, once, and returns where to go next.
func (s *Sim) confirmFlow(sessionID string) (redirect string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().UTC()
	s.advance(now)
	ps, ok := s.portals.get(sessionID)
	switch {
	case !ok:
		return "", &pageError{http.StatusNotFound, "There is no portal session " + sessionID + "."}
	case ps.flow == nil:
		return "", &pageError{http.StatusConflict, "This portal session has nothing to confirm."}
	case ps.flow.done:
		return "", &pageError{http.StatusConflict, "This change was confirmed before. Nothing was changed."}
	}
	f := ps.flow
	if f.subscription != nil {
		if _, err := s.living(f.subscription.id); err != nil {
			return "", err
		}
	}
	switch f.kind {
	case flowUpdate:
		s.changePlan(f.subscription, f.price, f.quantity)
	case flowCancel:
		s.setCancelAtPeriodEnd(f.subscription, true, now)
	}
	f.done = true
	return firstOf(f.afterURL, ps.returnURL), nil
}

func (s *Sim) renderPortal(ps *portalSession) object {
	var flow any
	if ps.flow != nil {
		flow = renderFlow(ps.flow)
	}
	return object{
		"id": ps.id, "object": "billing_portal.session", "configuration": s.portalConfig, "created": ps.created.Unix(),
		"customer": ps.customer.id, "flow": flow, "livemode": false, "locale": orNull(ps.locale), "on_behalf_of": nil,
		"return_url": orNull(ps.returnURL), "url": ps.url,
	}
}

func renderFlow(f *portalFlow) object {
	var redirect, cancel, confirm any
	if f.afterURL != "" {
		redirect = object{"return_url": f.afterURL}
	}
	switch f.kind {
	case flowCancel:
		cancel = object{"subscription": f.subscription.id, "retention": nil}
	case flowUpdate:
		confirm = object{
			"subscription": f.subscription.id, "discounts": nil,
			"items": []object{{"id": f.itemID, "price": f.price.id, "quantity": f.quantity}},
		}
	}
	return object{
		"type":                f.kind,
		"after_completion":    object{"type": f.after, "redirect": redirect, "hosted_confirmation": nil},
		"subscription_cancel": cancel, "subscription_update": nil, "subscription_update_confirm": confirm,
	}
}
