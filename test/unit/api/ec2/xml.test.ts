import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStringPromise } from 'xml2js';
import { escapeXml, renderAnswer, renderError, renderStsAnswer, renderStsError } from '../../../../src/api/ec2/xml.ts';

test('an answer is spelt as EC2 spells it', () => {
  const text = renderAnswer('DescribeThings', '2009-04-04', 'req-1', {
    thing_set: [{ instance_id: 'i-0000000b', key_name: null, ami_launch_index: 0, left_out: undefined }, {}],
    empty_set: [],
    public_ip: '10.0.0.5',
    PublicDns: '',
    displayName: 'Server <11> & "co"',
    launch_time: new Date('2011-04-15T00:00:00.789Z'),
    monitoring: { state: false },
    return: true,
  });

  assert.equal(
    text,
    '<?xml version="1.0" ?><DescribeThingsResponse xmlns="http://ec2.amazonaws.com/doc/2009-04-04/">' +
      '<requestId>req-1</requestId>' +
      '<thingSet><item><instanceId>i-0000000b</instanceId><keyName/><amiLaunchIndex>0</amiLaunchIndex></item><item/>' +
      '</thingSet><emptySet/><publicIp>10.0.0.5</publicIp><publicDns/>' +
      '<displayName>Server &lt;11&gt; &amp; &quot;co&quot;</displayName><launchTime>2011-04-15T00:00:00Z</launchTime>' +
      '<monitoring><state>false</state></monitoring><return>true</return></DescribeThingsResponse>',
  );
});

test("the client's version cannot break out of the namespace", () => {
  const text = renderAnswer('X', '"><evil a="', 'req-1', {});

  assert.match(text, /xmlns="http:\/\/ec2.amazonaws.com\/doc\/&quot;&gt;&lt;evil a=&quot;\/"/);
});

test('any text survives the way through a parser, but for characters that XML 1.0 has not', async () => {
  const every = Array.from({ length: 0x3000 }, (_, code) => String.fromCharCode(code)).join('');
  const text = `${every}\ud83d\ude00\ufffd`;

  const parsed = (await parseStringPromise(renderError('Code', `a${text}\ud800b\udc00\uffffc`, 'req-1'))) as {
    Response: { Errors: { Error: { Message: string[] }[] }[] };
  };

  const kept = text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f]/g, '');
  assert.equal(parsed.Response.Errors[0]?.Error[0]?.Message[0], `a${kept}bc`);
});

test('plain text is not touched', () => {
  const text = 'ssh-rsa AAAA+/= é 日本\tand\nmore';

  assert.equal(escapeXml(text), text);
});

test('errors have the shape that EC2 clients, and STS clients, parse', () => {
  assert.equal(
    renderError('AuthFailure', 'who & <you>', 'req-1'),
    '<?xml version="1.0"?>\n<Response><Errors><Error><Code>AuthFailure</Code><Message>who &amp; &lt;you&gt;</Message>' +
      '</Error></Errors><RequestID>req-1</RequestID></Response>',
  );
  assert.equal(
    renderStsError('AuthFailure', 'who', 'req-1'),
    '<?xml version="1.0"?>\n<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>' +
      '<Code>AuthFailure</Code><Message>who</Message></Error><RequestId>req-1</RequestId></ErrorResponse>',
  );
  assert.equal(
    renderStsAnswer('GetCallerIdentity', 'req-1', { UserId: 'ann' }),
    '<?xml version="1.0" ?><GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">' +
      '<GetCallerIdentityResult><UserId>ann</UserId></GetCallerIdentityResult>' +
      '<ResponseMetadata><RequestId>req-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>',
  );
});
