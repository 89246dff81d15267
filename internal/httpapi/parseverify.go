package httpapi

import (
	"github.com/keymeter/keymeter/gen/api"
)

// parseVerify reads a plain verify request: JSON without escapes, with each field at most once and on contract. ok is
// false for anything else, which is then judged by the contract's own schemas.
func parseVerify(text string) (r api.VerifyKeyRequest, ok bool) {
	p := plainJSON{text: text}
	p.object(func(field string) bool {
		switch field {
		case "key":
			return r.Key == "" && p.stringTo(&r.Key, 255)
		case "eventId":
			return r.EventID == nil && p.pointer(&r.EventID, 128) && printable(*r.EventID)
		case "ip":
			return r.IP == nil && p.pointer(&r.IP, 45) && len(*r.IP) >= 2 && address(*r.IP)
		case "scope":
			var scope string
			if r.Scope != nil || !p.stringTo(&scope, 20) {
				return false
			}
			r.Scope = (*api.Scope)(&scope)
			return r.Scope.Valid()
		case "cost":
			if r.Cost != nil {
				return false
			}
			r.Cost = &api.Cost{}
			return p.cost(r.Cost)
		}
		return false
	})
	return r, p.done() && r.Key != ""
}

func (p *plainJSON) cost(c *api.Cost) bool {
	return p.object(func(field string) bool {
		switch field {
		case "category":
			return c.Category == "" && p.stringTo((*string)(&c.Category), 10) && c.Category.Valid()
		case "credits":
			return c.Credits == nil && p.integer(&c.Credits)
		case "quantity":
			return c.Quantity == nil && p.integer(&c.Quantity)
		case "outputQuantity":
			return c.OutputQuantity == nil && p.integer(&c.OutputQuantity)
		case "provider":
			return c.Provider == nil && p.pointer(&c.Provider, 64) && providerName(*c.Provider)
		}
		return false // byok too: it is rare
	}) && c.Category != ""
}

// plainJSON reads a subset of JSON: objects, strings without escapes, and whole numbers. It stops at what it does not
// know, and never accepts what JSON would not.
type plainJSON struct {
	text string
	at   int
	bad  bool
}

func (p *plainJSON) fail() bool {
	p.bad = true
	return false
}

func (p *plainJSON) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\n' || p.text[p.at] == '\t' || p.text[p.at] == '\r') {
		p.at++
	}
}

func (p *plainJSON) next(c byte) bool {
	p.space()
	if p.at >= len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

// object reads an object and calls read for each field, which is to read its value.
func (p *plainJSON) object(read func(field string) bool) bool {
	if !p.next('{') {
		return p.fail()
	}
	for {
		field, ok := p.string()
		if !ok || !p.next(':') || !read(field) {
			return p.fail()
		}
		if p.next('}') {
			return true
		}
		if !p.next(',') {
			return p.fail()
		}
	}
}

func (p *plainJSON) string() (string, bool) {
	if !p.next('"') {
		return "", false
	}
	start := p.at
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[start : p.at-1], true
		case c < 0x20 || c == '\\' || c > 0x7e:
			return "", false
		}
	}
	return "", false
}

func (p *plainJSON) stringTo(to *string, most int) bool {
	s, ok := p.string()
	*to = s
	return ok && s != "" && len(s) <= most
}

func (p *plainJSON) pointer(to **string, most int) bool {
	*to = new(string)
	return p.stringTo(*to, most)
}

// integer reads a number that the contract allows as an amount: 0 to 1,000,000,000, without sign or fraction.
func (p *plainJSON) integer(to **int64) bool {
	p.space()
	start := p.at
	var n int64
	for ; p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' && p.at-start < 10; p.at++ {
		n = n*10 + int64(p.text[p.at]-'0')
	}
	*to = &n
	leadingZero := p.at-start > 1 && p.text[start] == '0'
	return p.at > start && !leadingZero && n <= 1_000_000_000
}

func (p *plainJSON) done() bool {
	p.space()
	return !p.bad && p.at == len(p.text)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}

func address(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') && (c < 'a' || c > 'f') && c != ':' && c != '.' {
			return false
		}
	}
	return true
}

func providerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
