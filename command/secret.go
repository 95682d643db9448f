package command

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/secret"
)

// SecretCommand makes, shows and replaces the cluster's secret. It works on files
// alone: a running agent notices that its file has changed.
type SecretCommand struct {
	env *Env
	now bool // of rotate: without grace
}

// secretVerbs are what the command can do, by its first operand.
var secretVerbs = map[string]func(c *SecretCommand, path string, operands []string) (int, error){
	"new":    (*SecretCommand).create,
	"show":   (*SecretCommand).show,
	"token":  (*SecretCommand).token,
	"rotate": (*SecretCommand).rotate,
	"ca":     (*SecretCommand).ca,
	"header": (*SecretCommand).header,
}

// Synopsis says what the command does, on one line.
func (c *SecretCommand) Synopsis() string { return "make, show or replace the cluster's secret" }

func secretFlags(file *string, now *bool) *flagSet {
	f := newFlags(true)
	f.group("Options")
	f.boolean(now, "now", "rotate: the old secret is not taken for another day, and nobody learns the new one by itself")
	f.str(file, "secret-file", "`FILE` with the secret (default: $SCAGENT_SECRET_FILE, else "+secret.DefaultPath(os.Getenv)+")")
	return f
}

// Help says how the command is called.
func (c *SecretCommand) Help() string {
	var file string
	var now bool
	return manual{
		name: "secret", usage: []string{"new", "show", "token", "rotate", "ca", "header METHOD URL [BODY]"},
		about: `
The secret of a cluster lets its nodes know each other anywhere; without one they talk only to their own LAN.
Copy the file to each node, or its worker token to nodes that run tasks and must not submit any. Mode 0600.

new     makes a secret; there must be none yet
show    prints it
token   prints the worker token: who has it can join and run tasks, not submit them
rotate  makes a new secret in place of this one, which is still taken for a day. An agent that uses the
        file notices, and the pool learns it from there: no other file need be touched. So does whoever has
        the old one: to shut somebody out use -now, and copy the new file to every node yourself
ca      prints the certificate, PEM, with which curl can check nodes that have the whole secret
header  prints the HTTP header that authorizes one request to a tracker, within two minutes`,
		flags: secretFlags(&file, &now),
		example: "scagent secret new\nscagent secret token | ssh worker 'umask 077; cat > /etc/scagent/secret'\n" +
			"url=https://tracker:44201/hostsAvailable\n" +
			`curl --cacert ca.pem -H "$(scagent secret header GET $url)" $url`,
	}.String()
}

// Run does it.
func (c *SecretCommand) Run(args []string) int {
	var file string
	operands, err := secretFlags(&file, &c.now).parse(args)
	if err == nil {
		switch {
		case len(operands) == 0:
			err = errors.New("want one of new, show, token, rotate, ca, header")
		case secretVerbs[operands[0]] == nil:
			err = fmt.Errorf("%q is unknown; want one of new, show, token, rotate, ca, header", shorten(operands[0], 40))
		case c.now && operands[0] != "rotate":
			err = errors.New("-now goes with rotate alone")
		case operands[0] == "header" && len(operands) != 3 && len(operands) != 4:
			err = errors.New("header wants METHOD URL, and a body where there is one")
		case operands[0] != "header":
			err = none(operands[1:])
		}
	}
	if err != nil {
		return c.env.usage("secret", c.Help(), err)
	}
	path := secret.Find(file, c.env.Getenv)
	if path == "" {
		if path = secret.DefaultPath(c.env.Getenv); path == "" {
			return c.env.fail(errors.New("HOME is not set, so there is no place for the secret; name one with -secret-file"))
		}
	}
	status, err := secretVerbs[operands[0]](c, path, operands[1:])
	if err != nil {
		return c.env.fail(err)
	}
	return status
}

func (c *SecretCommand) create(path string, _ []string) (int, error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("there is a secret in %s already; replace it with: scagent secret rotate", path)
	}
	if err := (secret.Chain{{Secret: secret.New()}}).Save(path); err != nil {
		return 0, err
	}
	c.env.note("a new secret is in %s; copy that file to the other nodes (mode 0600) and start their agents again", path)
	return exitOK, nil
}

func (c *SecretCommand) show(path string, _ []string) (int, error) {
	chain, err := secret.Load(path)
	if err != nil {
		return 0, err
	}
	return c.env.print(chain.Current().Text() + "\n"), nil
}

func (c *SecretCommand) token(path string, _ []string) (int, error) {
	chain, err := secret.Load(path)
	if err != nil {
		return 0, err
	}
	return c.env.print(chain.Current().Token().Text() + "\n"), nil
}

func (c *SecretCommand) rotate(path string, _ []string) (int, error) {
	chain, err := secret.Load(path)
	if err != nil {
		return 0, err
	}
	grace := secret.Grace
	if c.now {
		grace = 0
	}
	if chain, err = chain.Rotate(time.Now(), grace); err != nil {
		return 0, err
	}
	if err := chain.Save(path); err != nil {
		return 0, err
	}
	if c.now {
		c.env.note("a new secret is in %s, and the old one opens nothing here any more: copy the file (or its token, see scagent secret token) "+
			"to the other nodes, which are cut off until they have it", path)
		return exitOK, nil
	}
	c.env.note("a new secret is in %s; the old one is taken until %s. An agent here that uses the file tells the pool; "+
		"if none runs, copy the file to the other nodes", path, chain[1].Until.UTC().Format(time.RFC3339))
	return exitOK, nil
}

func (c *SecretCommand) ca(path string, _ []string) (int, error) {
	chain, err := secret.Load(path)
	if err != nil {
		return 0, err
	}
	der, err := chain.Current().Root()
	if err != nil {
		return 0, err
	}
	return c.env.print(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), nil
}

func (c *SecretCommand) header(path string, operands []string) (int, error) {
	chain, err := secret.Load(path)
	if err != nil {
		return 0, err
	}
	u, err := url.Parse(operands[1])
	if err != nil || u.Host == "" {
		return 0, fmt.Errorf("%q is no URL; want one such as https://tracker:44201/hostsAvailable", shorten(operands[1], 80))
	}
	body := strings.Join(operands[2:], "")
	return c.env.print("Authorization: " + chain.Current().SignRequest(strings.ToUpper(operands[0]), u.RequestURI(), []byte(body), time.Now()) + "\n"), nil
}
