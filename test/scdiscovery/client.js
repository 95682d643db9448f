'use strict';
// A client of sc-discovery's protocol:
//
//   node client.js http HOST PORT INTERVAL SERVICE
//   node client.js udp ADDRESS PORT INTERVAL SERVICE
//
// It announces SERVICE, the JSON of {id, name, data, available}, every INTERVAL
// milliseconds; with '' it only listens. ADDRESS is the one whose interface is
// used. It prints each change that it sees as one line of JSON,
// {event, id, name, data, rinfo}, where event is available, unavailable or
// update; for its own service that is echo, once, when it comes back. It ends
// with its standard input.

const dgram = require('dgram');
const http = require('http');

const GROUP = '224.0.0.234';

const [mode, host, portText, intervalText, serviceText] = process.argv.slice(2);
const port = Number(portText);
const interval = Number(intervalText);
const own = serviceText ? { [JSON.parse(serviceText).id]: JSON.parse(serviceText) } : {};

const known = {}; // by id: what is known of the services of others
let echoed = false;

function print(event, id, service) {
  const { name, data, rinfo } = service;
  process.stdout.write(JSON.stringify({ event, id, name, data, rinfo }) + '\n');
}

// take looks at one service of a map that was received.
function take(id, service) {
  if (typeof service !== 'object' || service === null || !service.name) {
    throw new Error(`${id} is not a service: ${JSON.stringify(service)}`);
  }
  if (Object.hasOwn(own, id)) {
    if (!echoed) print('echo', id, service);
    echoed = true;
    return;
  }
  const old = known[id];
  known[id] = service;
  if (!old || old.available !== service.available) {
    print(service.available ? 'available' : 'unavailable', id, service);
  } else if (JSON.stringify(old.data) !== JSON.stringify(service.data)) {
    print('update', id, service);
  }
}

// overHTTP asks again only when it was answered, so that answers stay in order.
function overHTTP() {
  const request = http.request({ hostname: host, port, method: 'POST' }, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part) => { text += part; });
    response.on('end', () => {
      if (response.statusCode !== 200) throw new Error(`answered ${response.statusCode}: ${text}`);
      const map = JSON.parse(text);
      for (const id of Object.keys(map)) take(id, map[id]);
      setTimeout(overHTTP, interval);
    });
  });
  request.end(JSON.stringify({ services: own }));
}

function overUDP() {
  const timers = {}; // by id: when a service counts as gone
  const socket = dgram.createSocket({ type: 'udp4', reuseAddr: true });
  socket.on('message', (message, rinfo) => {
    let map;
    try {
      map = JSON.parse(message);
    } catch {
      return; // the announcements of nodes are not JSON
    }
    for (const id of Object.keys(map)) {
      map[id].rinfo = rinfo;
      take(id, map[id]);
      clearTimeout(timers[id]);
      timers[id] = setTimeout(() => take(id, { ...map[id], available: false }), 2.5 * interval);
    }
  });
  const announce = () => socket.send(JSON.stringify(own), port, GROUP);
  socket.bind(port, () => {
    socket.setMulticastTTL(1);
    socket.setMulticastLoopback(true);
    socket.setMulticastInterface(host);
    socket.addMembership(GROUP, host);
    announce();
    setInterval(announce, interval);
  });
}

process.stdin.on('end', () => process.exit(0)).resume();
if (mode === 'http') {
  overHTTP();
} else {
  overUDP();
}
