package stripesim

import (
	"math/big"
	"slices"
	"strings"
	"time"
)

// largest is what Stripe takes as an amount, eight digits of cents.
const largest = 99_999_999

// invoiceItem is a charge of a customer outside of its plan. It waits for an
// invoice or is on one.
type invoiceItem struct {
	ID       string
	Customer string
	Invoice  string
	Date     time.Time
	Line     line
}

func (it *invoiceItem) key() string { return it.ID }

func (s *Sim) addItem(by cause, it *invoiceItem) {
	it.ID, it.Date = s.ids.next("ii_1", 23), s.instant
	it.Line.ID, it.Line.Item = s.ids.next("il_1", 23), it.ID
	s.items.add(it)
	s.emit(by, "invoiceitem.created", renderInvoiceItem(it), nil)
}

func (s *Sim) createItem(c *call) (object, *apiError) {
	it := &invoiceItem{Customer: s.customerParam(c)}
	it.Line.Start, it.Line.End, it.Line.Quantity = s.instant, s.instant, 1
	s.readPlace(c, it)
	s.readPriced(c, it)
	readWording(c, &it.Line)
	if c.err != nil {
		return nil, c.err
	}
	if it.Line.Price == nil {
		it.Line.Price = s.adHocPrice(&it.Line)
	}
	s.addItem(c.cause, it)
	if inv, attached := s.invoices.get(it.Invoice); attached {
		inv.Lines = append(inv.Lines, it.Line)
		s.emit(c.cause, "invoice.updated", renderInvoice(inv), nil)
	}
	return renderInvoiceItem(it), nil
}

// readPlace reads what the item is to be billed with. One that names a draft goes
// there at once and nowhere else.
func (s *Sim) readPlace(c *call, it *invoiceItem) {
	if id := c.str("subscription"); id != "" {
		sub, ok := s.subscriptions.get(id)
		if !ok || sub.Customer != it.Customer {
			c.fail(noSuch("subscription", id, "subscription"))
		}
		it.Line.Subscription = id
	}
	id := c.str("invoice")
	if id == "" {
		return
	}
	inv, ok := s.invoices.get(id)
	switch {
	case !ok || inv.Customer.ID != it.Customer:
		c.fail(noSuch("invoice", id, "invoice"))
		return
	case inv.Status != invoiceDraft:
		c.fail(notEditable(inv))
	case it.Line.Subscription != "" && it.Line.Subscription != inv.Subscription:
		c.fail(invalid("subscription", "The invoice "+id+" does not belong to the subscription "+it.Line.Subscription+"."))
	}
	it.Invoice, it.Line.Subscription = id, firstOf(it.Line.Subscription, inv.Subscription)
}

func notEditable(inv *invoice) *apiError {
	return invalidCode("invoice_not_editable", "invoice", "This invoice is no longer editable: "+inv.ID+" is "+inv.Status+", not a draft.")
}

// readPriced reads what the item costs: an amount, or so many of a unit.
func (s *Sim) readPriced(c *call, it *invoiceItem) {
	c.dollarsOnly("currency")
	var given []string
	for _, name := range []string{"amount", "unit_amount", "unit_amount_decimal", "price"} {
		if c.has(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0:
		c.fail(missingParam("amount"))
		return
	case len(given) > 1:
		c.fail(invalid(given[1], "You may only specify one of these parameters: "+strings.Join(given, ", ")+"."))
		return
	case given[0] == "amount" && c.has("quantity"):
		c.fail(invalid("quantity", "You may only specify one of these parameters: amount, quantity."))
	}
	l := &it.Line
	l.Quantity = c.integer("quantity", l.Quantity, 0, 1_000_000_000)
	s.readUnit(c, l, given[0])
}

func (s *Sim) readUnit(c *call, l *line, by string) {
	unit := new(big.Rat)
	switch by {
	case "price":
		l.Price = s.priceParam(c, "price")
		if c.err != nil {
			return
		}
		if l.Price.Months > 0 {
			c.fail(invalid("price", "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`."))
		}
		unit = l.Price.exact()
	case "unit_amount_decimal":
		unit = c.decimal(by)
	default:
		unit.SetInt64(c.integer(by, 0, -largest, largest))
	}
	l.UnitAmount = decimal(unit)
	exact := new(big.Rat).Mul(unit, new(big.Rat).SetInt64(l.Quantity))
	if exact.Cmp(big.NewRat(largest, 1)) > 0 || exact.Cmp(big.NewRat(-largest, 1)) < 0 {
		c.fail(invalidCode("amount_too_large", by, "Amount must be no more than $999,999.99"))
		return
	}
	l.Amount = roundRat(exact)
}

func readWording(c *call, l *line) {
	if c.has("description") {
		l.Description = c.str("description")
	}
	l.Metadata = c.merge("metadata", l.Metadata)
	if !c.has("period") {
		return
	}
	c.must("period[start]")
	c.must("period[end]")
	l.Start, l.End = c.instant("period[start]"), c.instant("period[end]")
	if l.End.Before(l.Start) {
		c.fail(invalid("period[end]", "The period must end after it starts."))
	}
}

func (s *Sim) updateItem(c *call) (object, *apiError) {
	it, inv, err := s.editableItem(c)
	if err != nil {
		return nil, err
	}
	next := *it
	if c.has("amount") || c.has("unit_amount") || c.has("unit_amount_decimal") || c.has("price") {
		next.Line.Price = nil
		s.readPriced(c, &next)
	} else if c.has("quantity") {
		next.Line.Quantity = c.integer("quantity", 1, 0, 1_000_000_000)
		next.Line.Amount = roundedAmount(mustRat(next.Line.UnitAmount), next.Line.Quantity)
	}
	readWording(c, &next.Line)
	if c.err != nil {
		return nil, c.err
	}
	if next.Line.Price == nil {
		next.Line.Price = s.adHocPrice(&next.Line)
	}
	before := renderInvoiceItem(it)
	*it = next
	s.emitUpdate(c.cause, "invoiceitem.updated", before, renderInvoiceItem(it))
	if inv != nil {
		i := slices.IndexFunc(inv.Lines, func(l line) bool { return l.Item == it.ID })
		inv.Lines[i] = it.Line
		s.emit(c.cause, "invoice.updated", renderInvoice(inv), nil)
	}
	return renderInvoiceItem(it), nil
}

func (s *Sim) deleteItem(c *call) (object, *apiError) {
	it, inv, err := s.editableItem(c)
	if err != nil {
		return nil, err
	}
	s.items.remove(it)
	s.emit(c.cause, "invoiceitem.deleted", renderInvoiceItem(it), nil)
	if inv != nil {
		inv.Lines = slices.DeleteFunc(inv.Lines, func(l line) bool { return l.Item == it.ID })
		s.emit(c.cause, "invoice.updated", renderInvoice(inv), nil)
	}
	return object{"id": it.ID, "object": "invoiceitem", "deleted": true}, nil
}

// editableItem finds an item that is pending, or on an invoice that is a draft.
func (s *Sim) editableItem(c *call) (*invoiceItem, *invoice, *apiError) {
	it, ok := s.items.get(c.id)
	if !ok {
		return nil, nil, notFound("invoiceitem", c.id)
	}
	inv, attached := s.invoices.get(it.Invoice)
	switch {
	case !attached:
		return it, nil, nil
	case inv.Status != invoiceDraft:
		return nil, nil, notEditable(inv)
	}
	return it, inv, nil
}

func (s *Sim) getItem(c *call) (object, *apiError) {
	it, ok := s.items.get(c.id)
	if !ok {
		return nil, notFound("invoiceitem", c.id)
	}
	return renderInvoiceItem(it), nil
}

func (s *Sim) listItems(c *call) (object, *apiError) {
	cust, inv, created := s.customerFilter(c), c.str("invoice"), c.created()
	pending, byPending := c.boolean("pending")
	return c.page(s.items.newest(func(it *invoiceItem) bool {
		return (cust == "" || it.Customer == cust) && (inv == "" || it.Invoice == inv) &&
			(!byPending || pending == (it.Invoice == "")) && created.has(it.Date)
	}, renderInvoiceItem))
}

func renderInvoiceItem(it *invoiceItem) object {
	l := it.Line
	var unit any
	if r := mustRat(l.UnitAmount); r.IsInt() {
		unit = r.Num().Int64()
	}
	out := object{
		"id": it.ID, "object": "invoiceitem", "amount": l.Amount, "currency": currency, "customer": it.Customer,
		"date": it.Date.Unix(), "description": orNull(l.Description), "discountable": !l.Proration, "discounts": []any{},
		"invoice": orNull(it.Invoice), "livemode": false, "metadata": renderMetadata(l.Metadata),
		"period": object{"start": l.Start.Unix(), "end": l.End.Unix()}, "price": renderPrice(l.Price),
		"proration": l.Proration, "quantity": l.Quantity, "quantity_decimal": decimal(new(big.Rat).SetInt64(l.Quantity)),
		"subscription": orNull(l.Subscription), "tax_rates": []any{}, "test_clock": nil, "unit_amount": unit,
		"unit_amount_decimal": l.UnitAmount,
	}
	if l.SubscriptionItem != "" {
		out["subscription_item"] = l.SubscriptionItem
	}
	return out
}
