# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The fault proxy itself: what it knows, counts, changes and breaks.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use JSON::PP ();
use Time::HiRes ();

use Autocert::Client ();
use Autocert::Events qw(vhosts all_stored);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

my @names = ('one.example.test', 'two.example.test');
my $pebble = Autocert::Pebble->new->start;
my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => {
    other => sub { my ($json) = @_; $json->{other} = 1 },
    upper => sub { my ($answer) = @_; $answer->{body} = uc $answer->{body} },
})->start;

sub ask
{
    my (%arg) = @_;
    return Autocert::Client::https_get(port => $proxy->port, sni => 'localhost', ca => $proxy->cafile,
        path => '/dir', headers => { 'User-Agent' => 'autocert-test', Host => $proxy->ca }, %arg);
}

subtest 'nothing wrong' => sub {
    my $server = Autocert::Server->with_ca($pebble, vars => $proxy->vars, config => vhosts(@names));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, 60, @names), 'names are obtained through the proxy';
    for my $name (@names) {
        ok $proxy->count(name => $name, class => $_), "$name: its $_ is known"
            for qw(newOrder authz challenge finalize order cert);
        is scalar($proxy->orders(name => $name)), 1, "$name: one order";
    }
    is $proxy->count(class => 'newAccount', status => 201), 1, 'one account';
    is $proxy->count(class => 'other'), 0, 'every request has a class';
    like +($proxy->requests(class => 'authz'))[0]{kid}, qr{^https://localhost:\d+/my-account/},
        'its URLs lead through the proxy';
    ok $server->stop, 'httpd stops';
};

subtest 'rules' => sub {
    $proxy->clear;
    my $ca = $proxy->ca;
    like ask()->{body}, qr{"https://\Q$ca\E/order-plz"}, 'the directory points at the proxy';
    my $id = $proxy->rule(class => 'directory', from => 2, to => 3,
        answer => { status => 503, headers => { 'Retry-After' => '7' }, body => 'busy' });
    is join(' ', map { ask()->{status} } 1 .. 4), '200 503 503 200', 'the second and the third';
    is $proxy->count(rule => $id), 2, 'are counted';
    $proxy->clear($id);
    $id = $proxy->rule(class => ['newOrder', 'directory'], method => 'GET', json => 'other',
        set => { status => 203, headers => { 'Content-Type' => 'x/y' } });
    my $answer = ask();
    is JSON::PP::decode_json($answer->{body})->{other}, 1, 'an edit of the JSON';
    is $answer->{status}, 203, 'another status';
    is $answer->{headers}{'content-type'}, 'x/y', 'another header';
    $proxy->clear;
    $proxy->rule(class => 'other', path => '^/else', path_to => '/dir', edit => 'upper', delay => 0.3);
    my $start = Time::HiRes::time();
    like ask(path => '/else')->{body}, qr/"NEWORDER"/, 'an edit of the answer, under another path';
    cmp_ok Time::HiRes::time() - $start, '>=', 0.3, 'and late';
    $proxy->clear;
    for my $break ({ reset => 'before' }, { reset => 'after' }, { cut => 1 }, { silent => 'after' }) {
        my ($how) = map { "$_ $break->{$_}" } keys %$break;
        my $broken = $proxy->rule(class => 'directory', %$break);
        $answer = ask(timeout => 2);
        ok !$answer->{ok} || $answer->{body} !~ /\}\s*$/, "no whole answer: $how";
        $proxy->clear($broken);
    }
    $proxy->rule(class => 'directory', drip => 0.001);
    is ask()->{status}, 200, 'a dripping answer is whole in the end';
};

subtest 'the rate limit' => sub {
    my @many = map { "many$_.example.test" } 1 .. 4;
    my $limited = Autocert::FaultProxy->new(pebble => $pebble, rate => { capacity => 2, period => 3600 })
        ->start;
    my $server = Autocert::Server->with_ca($pebble, vars => $limited->vars, config => vhosts(@many));
    ok $server->start, 'httpd starts' or return;
    ok $limited->wait_for(60, 1, rule => 'rate'), 'there is a refusal' or return;
    my ($refused) = $limited->requests(rule => 'rate');
    is $refused->{status}, 429, 'with 429';
    ok wait_until(60, sub { $limited->orders == 2 }), 'two orders are placed';
    my ($first) = sort { $a->{time} <=> $b->{time} } $limited->requests(class => 'newOrder');
    isnt $first->{rule}, 'rate', 'the first request was good';
    ok $server->stop, 'httpd stops';
    is scalar($limited->orders), 2, 'no more';
};

done_testing;
